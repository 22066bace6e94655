//! The addresses of our own API.

/// An address of our own API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    PostCommand,
    GetCommand,
    Targets,
    Target,
    Why,
    History,
    Templates,
    Events,
    Me,
    Letters,
    Replay,
    Links,
    Health,
    Ready,
    Metrics,
}

impl Route {
    pub(crate) const ALL: [Self; 15] = [
        Self::PostCommand,
        Self::GetCommand,
        Self::Targets,
        Self::Target,
        Self::Why,
        Self::History,
        Self::Templates,
        Self::Events,
        Self::Me,
        Self::Letters,
        Self::Replay,
        Self::Links,
        Self::Health,
        Self::Ready,
        Self::Metrics,
    ];

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::PostCommand => "/v1/commands",
            Self::GetCommand => "/v1/commands/{id}",
            Self::Targets => "/v1/targets",
            Self::Target => "/v1/targets/{name}",
            Self::Why => "/v1/targets/{name}/why",
            Self::History => "/v1/targets/{name}/history",
            Self::Templates => "/v1/templates",
            Self::Events => "/v1/events",
            Self::Me => "/v1/me",
            Self::Letters => "/v1/dead-letters",
            Self::Replay => "/v1/dead-letters/replay",
            Self::Links => "/v1/links",
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
        }
    }

    /// Whether it is a POST; the others are GETs.
    pub(crate) const fn posts(self) -> bool {
        matches!(self, Self::PostCommand | Self::Replay | Self::Links)
    }
}
