//! lamplighter-local
