use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_790_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn config() -> JwtConfig {
    JwtConfig {
        keys: JwtKeys::Secret("secret".into()),
        issuer: "city".to_owned(),
        audience: "loushan".to_owned(),
        leeway: Duration::from_secs(30),
    }
}

fn claims() -> Value {
    json!({ "sub": "ada", "role": "admin", "exp": NOW + 60, "iss": "city", "aud": "loushan" })
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn without(key: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(key);
    claims
}

fn token(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn verify(claims: &Value) -> Result<Bearer, TokenError> {
    Keys::from_secret(SECRET).unwrap().verify(&token(claims), &config(), now())
}

#[test]
fn a_token_says_who_its_bearer_is_and_for_how_long() {
    let bearer = verify(&claims()).unwrap();
    assert_eq!((bearer.name.as_str(), bearer.role), ("ada", Role::Admin));
    assert_eq!(bearer.expires_in, Duration::from_secs(90));
    let mut station = with("role", json!("station"));
    station["region"] = json!("xinpu");
    station["station"] = json!("bs0001");
    station["project"] = json!("water");
    let Role::Station(scope) = verify(&station).unwrap().role else { panic!() };
    assert_eq!((scope.region.as_str(), scope.station.as_str()), ("xinpu", "bs0001"));
    assert_eq!(scope.project.as_deref(), Some("water"));
}

#[test]
fn what_a_token_must_say_it_must_say_rightly() {
    for claims in [
        without("exp"),
        without("sub"),
        without("iss"),
        without("aud"),
        without("role"),
        with("iss", json!("other")),
        with("aud", json!("other")),
        with("exp", json!(NOW - 31)),
        with("exp", json!("tomorrow")),
        with("nbf", json!(NOW + 31)),
        with("role", json!("root")),
        with("role", json!("anonymous")),
        with("role", json!("station")),
        with("sub", json!("")),
        with("sub", json!("a\nb")),
    ] {
        assert!(verify(&claims).is_err(), "{claims}");
    }
    assert!(verify(&with("exp", json!(NOW - 29))).is_ok(), "within the leeway");
    assert!(verify(&with("aud", json!(["other", "loushan"]))).is_ok());
    assert!(verify(&with("exp", json!(4e12))).is_ok());
}

/// A token of another header, signed over with the secret.
fn forged(header: &Value) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    let message = format!("{}.{}", part(header), part(&claims()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    let tag = ring::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", base64url(tag.as_ref()))
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for n in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(word >> (18 - 6 * n) & 63) as usize]));
        }
    }
    out
}

#[test]
fn the_key_says_the_algorithm_and_the_token_does_not() {
    let keys = Keys::from_secret(SECRET).unwrap();
    assert!(keys.verify(&forged(&json!({ "alg": "HS256" })), &config(), now()).is_ok());
    for alg in ["none", "None", "HS384", "RS256", ""] {
        let token = forged(&json!({ "alg": alg }));
        assert!(keys.verify(&token, &config(), now()).is_err(), "{alg}");
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert!(keys.verify(&unsigned, &config(), now()).is_err(), "{alg}");
    }
    // The classic: a public key used as if it were a shared secret.
    let jwk = json!({ "keys": [{
        "kty": "OKP", "crv": "Ed25519", "kid": "k",
        "x": base64url(SECRET),
    }] });
    let keys = Keys::from_set(jwk.to_string().as_bytes()).unwrap();
    let token = forged(&json!({ "alg": "HS256", "kid": "k" }));
    assert_eq!(keys.verify(&token, &config(), now()), Err(TokenError::NoKey));
}

#[test]
fn a_set_has_its_keys_by_id_and_by_algorithm() {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    let der = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
    let ed = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
        "x": base64url(pair.public_key().as_ref()),
    });
    let oct = json!({ "kty": "oct", "kid": "shared", "k": base64url(SECRET) });
    let set = |keys: &[&Value]| Keys::from_set(json!({ "keys": keys }).to_string().as_bytes());
    let keys = set(&[&ed, &oct]).unwrap();
    let signed = |kid: Option<&str>| {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = kid.map(str::to_owned);
        encode(&header, &claims(), &EncodingKey::from_ed_der(der.as_ref())).unwrap()
    };
    let bearer = keys.verify(&signed(Some("ed")), &config(), now()).unwrap();
    assert!(keys.verify(&signed(None), &config(), now()).is_ok());
    assert!(keys.verify(&signed(Some("shared")), &config(), now()).is_err());
    assert!(keys.verify(&token(&claims()), &config(), now()).is_ok());
    assert!(keys.has(&bearer.key));
    assert!(!set(&[&oct]).unwrap().has(&bearer.key));

    for bad in [
        json!({ "kty": "oct", "k": base64url(b"short") }),
        json!({ "kty": "oct", "alg": "RS256", "k": base64url(SECRET) }),
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "HS256", "x": base64url(SECRET) }),
    ] {
        assert!(matches!(set(&[&oct, &bad]), Err(KeysError::Key(2))), "{bad}");
    }
    assert!(matches!(set(&[]), Err(KeysError::Count(0))));
    let Err(KeysError::Json { line: 2, .. }) = Keys::from_set(b"{\n hunter2") else { panic!() };
    assert!(matches!(Keys::from_secret(b"short"), Err(KeysError::Secret(5))));
}

#[test]
fn only_a_token_looks_like_one() {
    assert!(looks_like_token(token(&claims()).as_bytes()).is_some());
    for password in ["eyJ", "a.b.c", "eyJa.b", "eyJ.a.b.c", ""] {
        assert_eq!(looks_like_token(password.as_bytes()), None, "{password}");
    }
}
