//! JSON Web Tokens (RFC 7519) as passwords.
//!
//! A key has one algorithm: the one it names, or that of its kind, and a token that names another is
//! refused; `none` is no algorithm at all. Issuer, audience and expiry are always checked. Claims:
//!
//! | claim | |
//! |---|---|
//! | `sub` | the user's name, required |
//! | `role` | `station`, `project`, `operator` or `admin`, required |
//! | `exp` | required; the client is disconnected when it is over |
//! | `nbf` | not before, if there |
//! | `region` | of a station, required |
//! | `station` | its name, if it is not `sub` |
//! | `project` | of a station, if there; of a project's reader, required |

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use loushan_schemas::ids::{Region, StationId};
use ring::digest;
use serde::Deserialize;

use super::role::{Role, RoleName, StationScope};

/// Keys of a set: a token without a key id is tried against each.
const MAX_KEYS: usize = 32;

/// Bytes of a shared secret at least: as many as HMAC-SHA256 has (RFC 7518, section 3.2).
const MIN_SECRET: usize = 32;

/// `[auth.jwt]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// Where the keys are.
    pub keys: JwtKeys,
    /// The `iss` that tokens must have.
    pub issuer: String,
    /// The `aud` that tokens must have.
    pub audience: String,
    /// How far the issuer's clock may be off.
    pub leeway: Duration,
}

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// A JSON Web Key Set (RFC 7517).
    Jwks(PathBuf),
    /// A file whose bytes, without white space at its ends, are the secret shared with the issuer.
    Secret(PathBuf),
}

impl JwtKeys {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Jwks(path) | Self::Secret(path) => path,
        }
    }
}

/// Keys that cannot be used. What is in the file is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is no key set.
    #[error("this is no JSON Web Key Set: line {line}, column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// It has none, or too many.
    #[error("there are {0} keys, and 1 to {MAX_KEYS} are taken")]
    Count(usize),
    /// One is of no use.
    #[error(
        "key {0} (from 1) cannot be used: keys are RSA, EC P-256 or P-384, OKP Ed25519, or oct of at \
         least {MIN_SECRET} bytes, with an algorithm (alg) of that kind or none"
    )]
    Key(usize),
    /// The secret is short.
    #[error("the secret has {0} bytes, and at least {MIN_SECRET} are needed")]
    Secret(usize),
}

/// By which a key is known again after a reload.
pub(super) type Fingerprint = [u8; 32];

/// The keys of a file.
#[derive(Clone, Default)]
pub(super) struct Keys(Vec<TokenKey>);

#[derive(Clone)]
struct TokenKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    fingerprint: Fingerprint,
}

/// Who a token says its bearer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) name: String,
    pub(super) role: Role,
    /// How long the token is good for, from now.
    pub(super) expires_in: Duration,
    pub(super) key: Fingerprint,
}

/// Why a token is refused: for the log, never for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("{0}")]
    Token(String),
    #[error("no key of ours has the token's key id and algorithm")]
    NoKey,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
    #[error("the token's claims name no role of ours: {0}")]
    Claims(String),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    role: String,
    // Numbers of seconds may have a fraction (RFC 7519, section 2).
    exp: f64,
    nbf: Option<f64>,
    region: Option<String>,
    station: Option<String>,
    project: Option<String>,
}

impl Keys {
    pub(super) fn read(keys: &JwtKeys) -> Result<Self, KeysError> {
        let bytes = std::fs::read(keys.path())?;
        match keys {
            JwtKeys::Jwks(_) => Self::from_set(&bytes),
            JwtKeys::Secret(_) => Self::from_secret(bytes.trim_ascii()),
        }
    }

    fn from_secret(secret: &[u8]) -> Result<Self, KeysError> {
        if secret.len() < MIN_SECRET {
            return Err(KeysError::Secret(secret.len()));
        }
        let key = DecodingKey::from_secret(secret);
        let fingerprint = fingerprint(secret);
        Ok(Self(vec![TokenKey { id: None, algorithm: Algorithm::HS256, key, fingerprint }]))
    }

    fn from_set(json: &[u8]) -> Result<Self, KeysError> {
        let set: JwkSet = serde_json::from_slice(json)
            .map_err(|e| KeysError::Json { line: e.line(), column: e.column() })?;
        if set.keys.is_empty() || set.keys.len() > MAX_KEYS {
            return Err(KeysError::Count(set.keys.len()));
        }
        // Issuers publish keys for encryption beside those for signatures.
        let signs = |jwk: &&Jwk| jwk.common.public_key_use != Some(PublicKeyUse::Encryption);
        let keys = set.keys.iter().filter(signs).enumerate().map(|(index, jwk)| {
            let error = || KeysError::Key(index + 1);
            let algorithm = algorithm(jwk).ok_or_else(error)?;
            let key = DecodingKey::from_jwk(jwk).map_err(|_| error())?;
            let json = serde_json::to_vec(jwk).map_err(|_| error())?;
            let fingerprint = fingerprint(&json);
            Ok(TokenKey { id: jwk.common.key_id.clone(), algorithm, key, fingerprint })
        });
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a key is still there.
    pub(super) fn has(&self, fingerprint: &Fingerprint) -> bool {
        self.0.iter().any(|key| key.fingerprint == *fingerprint)
    }

    /// Verifies a token and reads its claims.
    pub(super) fn verify(
        &self,
        token: &str,
        config: &JwtConfig,
        now: SystemTime,
    ) -> Result<Bearer, TokenError> {
        let told = |e: jsonwebtoken::errors::Error| TokenError::Token(e.to_string());
        let header = decode_header(token).map_err(told)?;
        let mut last = TokenError::NoKey;
        for key in &self.0 {
            let named = header.kid.is_none() || header.kid == key.id;
            if key.algorithm != header.alg || !named {
                continue;
            }
            let mut validation = Validation::new(key.algorithm);
            validation.set_issuer(&[&config.issuer]);
            validation.set_audience(&[&config.audience]);
            validation.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
            // By the clock that was handed in, below.
            validation.validate_exp = false;
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(data) => return bearer(data.claims, key.fingerprint, config.leeway, now),
                Err(e) => last = told(e),
            }
        }
        Err(last)
    }
}

/// Whether a password may be a token: three parts, the first of them a header of one.
pub(super) fn looks_like_token(password: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(password).ok()?;
    // base64url of `{"`, as every header begins.
    (text.starts_with("eyJ") && text.bytes().filter(|b| *b == b'.').count() == 2).then_some(text)
}

/// The one algorithm of a key.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let named = jwk.common.key_algorithm;
    let one_of = |default: Algorithm, others: &[(KeyAlgorithm, Algorithm)]| match named {
        None => Some(default),
        Some(named) => others.iter().find(|(name, _)| *name == named).map(|(_, it)| *it),
    };
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => one_of(
            Algorithm::RS256,
            &[
                (KeyAlgorithm::RS256, Algorithm::RS256),
                (KeyAlgorithm::RS384, Algorithm::RS384),
                (KeyAlgorithm::RS512, Algorithm::RS512),
                (KeyAlgorithm::PS256, Algorithm::PS256),
                (KeyAlgorithm::PS384, Algorithm::PS384),
                (KeyAlgorithm::PS512, Algorithm::PS512),
            ],
        ),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => {
                one_of(Algorithm::ES256, &[(KeyAlgorithm::ES256, Algorithm::ES256)])
            }
            EllipticCurve::P384 => {
                one_of(Algorithm::ES384, &[(KeyAlgorithm::ES384, Algorithm::ES384)])
            }
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            one_of(Algorithm::EdDSA, &[(KeyAlgorithm::EdDSA, Algorithm::EdDSA)])
        }
        AlgorithmParameters::OctetKeyPair(_) => None,
        // base64url: four characters for three bytes.
        AlgorithmParameters::OctetKey(key) if key.value.len() * 3 / 4 >= MIN_SECRET => one_of(
            Algorithm::HS256,
            &[
                (KeyAlgorithm::HS256, Algorithm::HS256),
                (KeyAlgorithm::HS384, Algorithm::HS384),
                (KeyAlgorithm::HS512, Algorithm::HS512),
            ],
        ),
        AlgorithmParameters::OctetKey(_) => None,
    }
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    fingerprint
}

fn bearer(
    claims: Claims,
    key: Fingerprint,
    leeway: Duration,
    now: SystemTime,
) -> Result<Bearer, TokenError> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let left = claims.exp + leeway.as_secs_f64() - now;
    if left.is_nan() || left <= 0.0 {
        return Err(TokenError::Expired);
    }
    if claims.nbf.is_some_and(|nbf| nbf > now + leeway.as_secs_f64()) {
        return Err(TokenError::Early);
    }
    // Longer than any process lives, and short enough to be added to any time.
    const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;
    let expires_in = Duration::from_secs_f64(left.min(LONGEST));
    let error = |e: &dyn std::fmt::Display| TokenError::Claims(e.to_string());
    let name = claims.sub;
    if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
        return Err(error(&"sub is not 1 to 128 bytes without control characters"));
    }
    let role = match claims.role.parse::<RoleName>().map_err(|e| error(&e))? {
        RoleName::Project => {
            let project = claims.project.filter(|project| !project.is_empty());
            Role::Project(
                project.ok_or_else(|| error(&"a project's reader needs its project"))?.into(),
            )
        }
        RoleName::Operator => Role::Operator,
        RoleName::Admin => Role::Admin,
        RoleName::Anonymous => return Err(error(&"a token is somebody's")),
        RoleName::Station => {
            let region = claims.region.ok_or_else(|| error(&"a station needs its region"))?;
            let station = claims.station.as_deref().unwrap_or(&name);
            Role::Station(StationScope {
                region: Region::new(&region).map_err(|e| error(&e))?,
                station: StationId::new(station).map_err(|e| error(&e))?,
                project: claims.project,
            })
        }
    };
    Ok(Bearer { name, role, expires_in, key })
}

#[cfg(test)]
mod tests;
