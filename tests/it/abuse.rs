//! Floods of bad keys.

use http::Method;

use crate::support::actors::{App, Setup, unknown_key};
use crate::support::faulty::Switch;

/// One bad key more than the burst of a source. The clock does not move meanwhile.
const FLOOD: usize = 20_001;

#[tokio::test]
async fn a_flood_of_bad_keys_is_limited_and_good_keys_from_the_same_source_are_not() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::default() }).await;
    let operator = app.operator(&["view", "create", "edit"]).await;
    let system = operator.create_system("Billing").await;
    let key = operator.generate_key(&system.id).await.api_key;
    app.wait_for_cache().await;

    let (verifier, unknown) = (app.verifier(), unknown_key());
    let before = switch.calls(&["find_key"]);
    let mut limited = None;
    for _ in 0..FLOOD {
        let answer = verifier.verify(&unknown).await;
        if answer.status != 200 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.body["code"], "NOT_FOUND");
    }
    let limited = limited.expect("the flood is limited");
    assert_eq!(
        (limited.status.as_u16(), &limited.body["valid"], &limited.body["code"]),
        (429, &false.into(), &"RATE_LIMITED".into())
    );
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(switch.calls(&["find_key"]), before, "unknown keys cost no read of the store");

    let metrics = verifier.send(Method::GET, "/metrics", &[], String::new()).await.text;
    assert!(metrics.lines().any(|line| line == "keymark_verifications_limited_total 1"), "{metrics}");

    assert_eq!(verifier.verify(&key).await.body["code"], "VALID");
    assert_eq!(verifier.verify("km_typo").await.body["code"], "MALFORMED");
    let forwarded = verifier.forward_auth(&[("x-api-key", &unknown)]).await;
    assert_eq!(forwarded.status, 401, "gateways get 401 for every bad key");
}

#[tokio::test]
async fn while_the_cache_is_bypassed_the_limit_protects_the_store() {
    let switch = Switch::default();
    let app = App::embedded_with(Setup { switch: Some(switch.clone()), ..Setup::without_leases() }).await;
    let operator = app.operator(&["view", "create"]).await;
    let key = operator.generate_key(&operator.create_system("Billing").await.id).await.api_key;
    let (verifier, unknown) = (app.verifier(), unknown_key());
    assert_eq!(verifier.verify(&key).await.body["code"], "VALID");
    for _ in 0..FLOOD - 1 {
        assert_eq!(verifier.verify(&unknown).await.body["code"], "NOT_FOUND");
    }
    let calls = switch.calls(&["find_key"]);
    for presented in [&key, &unknown] {
        let answer = verifier.verify(presented).await;
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (503, &"UNAVAILABLE".into()));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(switch.calls(&["find_key"]), calls);
    let headers = [("x-api-key", key.as_str())];
    let elsewhere = verifier.send_from("127.0.0.2", Method::GET, "/v1/forward-auth", &headers, String::new()).await;
    assert_eq!(elsewhere.status, 200, "another source is not limited");
}
