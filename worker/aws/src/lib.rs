//! lamplighter-aws
