//! Reason codes of MQTT 5 (section 2.4). A 3.1.1 client never sees one.

/// A reason code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reason(pub(crate) u8);

impl Reason {
    pub(crate) const SUCCESS: Self = Self(0x00);
    pub(crate) const NO_SUBSCRIPTION_EXISTED: Self = Self(0x11);
    /// 3.1.1's return code for a client older than itself; MQTT 5 has no such code.
    pub(crate) const TOO_OLD: Self = Self(0x01);
    pub(crate) const UNSPECIFIED_ERROR: Self = Self(0x80);
    pub(crate) const MALFORMED_PACKET: Self = Self(0x81);
    pub(crate) const PROTOCOL_ERROR: Self = Self(0x82);
    pub(crate) const IMPLEMENTATION_SPECIFIC_ERROR: Self = Self(0x83);
    pub(crate) const UNSUPPORTED_VERSION: Self = Self(0x84);
    pub(crate) const CLIENT_ID_NOT_VALID: Self = Self(0x85);
    pub(crate) const BAD_CREDENTIALS: Self = Self(0x86);
    pub(crate) const NOT_AUTHORIZED: Self = Self(0x87);
    pub(crate) const SERVER_UNAVAILABLE: Self = Self(0x88);
    pub(crate) const SERVER_BUSY: Self = Self(0x89);
    pub(crate) const SERVER_SHUTTING_DOWN: Self = Self(0x8B);
    pub(crate) const BAD_AUTHENTICATION_METHOD: Self = Self(0x8C);
    pub(crate) const KEEP_ALIVE_TIMEOUT: Self = Self(0x8D);
    pub(crate) const SESSION_TAKEN_OVER: Self = Self(0x8E);
    pub(crate) const FILTER_INVALID: Self = Self(0x8F);
    pub(crate) const TOPIC_NAME_INVALID: Self = Self(0x90);
    pub(crate) const PACKET_ID_NOT_FOUND: Self = Self(0x92);
    pub(crate) const RECEIVE_MAXIMUM_EXCEEDED: Self = Self(0x93);
    pub(crate) const TOPIC_ALIAS_INVALID: Self = Self(0x94);
    pub(crate) const PACKET_TOO_LARGE: Self = Self(0x95);
    pub(crate) const QUOTA_EXCEEDED: Self = Self(0x97);
    pub(crate) const PAYLOAD_FORMAT_INVALID: Self = Self(0x99);
    pub(crate) const CONNECTION_RATE_EXCEEDED: Self = Self(0x9F);
    pub(crate) const MAXIMUM_CONNECT_TIME: Self = Self(0xA0);

    /// Whether the code says that something failed.
    pub(crate) const fn is_error(self) -> bool {
        self.0 >= 0x80
    }
}
