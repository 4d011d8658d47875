//! Session tokens: JWTs (RFC 7519) that refer to a session in the store. No other claim in them is trusted.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::ids::OperatorId;
use crate::domain::secrets::Keyring;
use crate::domain::sessions::{Session, SessionId, SessionSecret};

/// `iss` and `aud` of every token.
pub const ISSUER: &str = "keymark";

/// Cached tokens, of about 100 bytes each.
const MAX_CACHED_TOKENS: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The operator.
    sub: String,
    /// The session's secret.
    sid: String,
    /// Seconds since the Unix epoch.
    iat: i64,
    exp: i64,
}

/// A session and its operator, as named by a valid token. Neither is known to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRef {
    pub session: SessionId,
    pub operator: OperatorId,
}

/// Signs and verifies tokens. Accepts only HS256, with the key that `kid` names.
pub struct Tokens {
    current_kid: String,
    signing: EncodingKey,
    /// Keys by `kid`, the current one first.
    verifying: Vec<(String, DecodingKey)>,
    validation: Validation,
    /// Sessions by the SHA-256 of valid tokens that named them, since verifying a token takes a twentieth of the time
    /// of a list query. Whether the session is valid is still looked up for every request.
    cache: Cache<[u8; 32], SessionRef>,
}

impl Tokens {
    pub fn new(keys: &Keyring) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // The session in the store has the end, which is checked by the injected clock.
        validation.validate_exp = false;
        Self {
            current_kid: keys.current().fingerprint.to_string(),
            signing: EncodingKey::from_secret(keys.current().tokens.expose()),
            verifying: keys
                .iter()
                .map(|keys| (keys.fingerprint.to_string(), DecodingKey::from_secret(keys.tokens.expose())))
                .collect(),
            validation,
            cache: Cache::new(MAX_CACHED_TOKENS),
        }
    }

    /// The token of `session`, whose secret is `secret`.
    pub fn issue(&self, session: &Session, secret: &SessionSecret) -> String {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            sub: session.operator.to_string(),
            sid: secret.encode().to_string(),
            iat: session.created_at.as_millis() / 1000,
            exp: session.expires_at.as_millis() / 1000,
        };
        let header = Header { kid: Some(self.current_kid.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &self.signing).expect("HS256 signs plain claims under any secret")
    }

    /// Returns the session that the token names, if the token is valid.
    pub fn read(&self, token: &str) -> Option<SessionRef> {
        let digest = Sha256::digest(token).into();
        if let Some(session) = self.cache.get(&digest) {
            return Some(session);
        }
        let session = self.verify(token)?;
        self.cache.insert(digest, session);
        Some(session)
    }

    fn verify(&self, token: &str) -> Option<SessionRef> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let is_jwt = header.typ.as_deref().is_some_and(|typ| typ.eq_ignore_ascii_case("JWT"));
        let embeds_key = header.jku.is_some() || header.jwk.is_some() || header.x5u.is_some() || header.x5c.is_some();
        if !is_jwt || embeds_key || header.cty.is_some() {
            return None;
        }
        let kid = header.kid?;
        let (_, key) = self.verifying.iter().find(|(known, _)| *known == kid)?;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok()?.claims;
        Some(SessionRef { session: SessionSecret::decode(&claims.sid)?.id(), operator: claims.sub.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::secrets::RootSecret;
    use crate::domain::time::Timestamp;

    fn keyring(byte: u8) -> Keyring {
        Keyring::new(&RootSecret::new(vec![byte; 32]).unwrap(), &[])
    }

    fn session() -> (Session, SessionSecret) {
        let mut rng = StdRng::seed_from_u64(5);
        let now = Timestamp::from_millis(1_700_000_000_000);
        let secret = SessionSecret::generate(&mut rng);
        let session = Session {
            id: secret.id(),
            tenant: "acme".parse().unwrap(),
            operator: OperatorId::new(now, &mut rng),
            password_version: 1,
            created_at: now,
            expires_at: now.plus(std::time::Duration::from_secs(60)),
            network: None,
            user_agent: None,
        };
        (session, secret)
    }

    /// A token with a correct signature, but another header or other claims.
    fn forged(keys: &Keyring, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (session, secret) = session();
        let token = Tokens::new(keys).issue(&session, &secret);
        let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
        let mut next = || serde_json::from_slice::<Value>(&parts.next().unwrap()).unwrap();
        let (mut header, mut claims) = (next(), next());
        change(&mut header, &mut claims);
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let tag = keys.current().tokens.mac(&[signed.as_bytes()]);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    #[test]
    fn a_token_names_its_session() {
        let (session, secret) = session();
        let tokens = Tokens::new(&keyring(1));
        let named = SessionRef { session: session.id, operator: session.operator };
        assert_eq!(tokens.read(&tokens.issue(&session, &secret)), Some(named));
        assert_eq!(tokens.read(&forged(&keyring(1), |_, _| {})), Some(named), "an unchanged token is valid");
    }

    #[test]
    fn a_token_of_a_previous_secret_is_valid_while_that_is_configured() {
        let (session, secret) = session();
        let old = Tokens::new(&keyring(1)).issue(&session, &secret);
        let (one, two) = (RootSecret::new(vec![1; 32]).unwrap(), RootSecret::new(vec![2; 32]).unwrap());
        assert!(Tokens::new(&Keyring::new(&two, &[one])).read(&old).is_some());
        assert!(Tokens::new(&Keyring::new(&two, &[])).read(&old).is_none());
    }

    #[test]
    fn any_other_token_is_refused() {
        let keys = keyring(1);
        let tokens = Tokens::new(&keys);
        type Change = fn(&mut Value, &mut Value);
        let changes: [(&str, Change); 15] = [
            ("no algorithm", |header, _| header["alg"] = json!("none")),
            ("no algorithm, in capitals", |header, _| header["alg"] = json!("None")),
            ("another HMAC", |header, _| header["alg"] = json!("HS384")),
            ("an asymmetric algorithm", |header, _| header["alg"] = json!("RS256")),
            ("no kid", |header, _| drop(header.as_object_mut().unwrap().remove("kid"))),
            ("an unknown kid", |header, _| header["kid"] = json!("0000000000000000")),
            ("a path as kid", |header, _| header["kid"] = json!("../../dev/null")),
            ("another type", |header, _| header["typ"] = json!("at+jwt")),
            ("an address of keys", |header, _| header["jku"] = json!("https://example.org/keys")),
            ("a key of its own", |header, _| header["jwk"] = json!({ "kty": "oct", "k": "AAAA" })),
            ("another issuer", |_, claims| claims["iss"] = json!("somebody")),
            ("another audience", |_, claims| claims["aud"] = json!("somebody")),
            ("no session", |_, claims| drop(claims.as_object_mut().unwrap().remove("sid"))),
            ("a malformed session", |_, claims| claims["sid"] = json!("../x")),
            ("a malformed operator", |_, claims| claims["sub"] = json!("root")),
        ];
        for (what, change) in changes {
            assert_eq!(tokens.read(&forged(&keys, change)), None, "{what}");
        }
        assert_eq!(tokens.read(&forged(&keyring(2), |_, _| {})), None, "another secret");
        let (session, secret) = session();
        let token = tokens.issue(&session, &secret);
        for broken in ["", "a.b.c", &token[..token.len() - 1], &format!("{token}A"), &token.replace('.', "..")] {
            assert_eq!(tokens.read(broken), None, "{broken}");
        }
    }
}
