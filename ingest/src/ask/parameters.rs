//! Which parameters each question has.

use super::question::What;

impl What {
    /// The parameters there are.
    #[must_use]
    pub const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Latest => &["device", "station", "project", "kind", "format"],
            Self::History => &[
                "device",
                "station",
                "project",
                "kind",
                "from",
                "to",
                "min_quality",
                "order",
                "limit",
                "page",
                "fields",
                "format",
            ],
            Self::Aggregate => &[
                "field",
                "fn",
                "every",
                "zone",
                "by",
                "per",
                "device",
                "station",
                "project",
                "kind",
                "from",
                "to",
                "min_quality",
                "format",
            ],
            Self::Seen => &["device", "station", "project", "kind", "format"],
            Self::Gaps => &[
                "device",
                "station",
                "project",
                "kind",
                "from",
                "to",
                "min_quality",
                "longer_than",
                "factor",
                "format",
            ],
            Self::Export => &[
                "kind",
                "device",
                "station",
                "project",
                "from",
                "to",
                "min_quality",
                "fields",
                "format",
            ],
        }
    }
}
