//! Service tokens and verifier tokens.

use keymark::domain::audit::AuditAction;
use keymark::domain::changes::{Batch, Row, RowId, Write};
use keymark::domain::tokens::{Token, TokenKind};
use keymark::store::{Conflict, Store};

use super::Factory;
use super::fixtures::*;

pub async fn token_is_found_by_the_digest_of_each_secret(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    let token = created(&*store, &mut acme, "Backend").await;
    let other = created(&*store, &mut bolt, "Backend").await;
    let unknown = acme.digest();

    assert_eq!(store.find_token(&[unknown, token.digest]).await.unwrap(), Some(token.clone()));
    assert_eq!(store.find_token(&[other.digest]).await.unwrap(), Some(other));
    assert_eq!(store.find_token(&[unknown]).await.unwrap(), None);
    assert_eq!(store.find_token(&[]).await.unwrap(), None);

    let second = rotated(&*store, &mut acme, &token).await;
    for digest in [token.digest, second.digest] {
        assert_eq!(store.find_token(&[digest]).await.unwrap(), Some(second.clone()));
    }
    let third = second.rotate(acme.digest(), second.mark, Default::default(), None, acme.now.plus(2 * SECOND)).unwrap();
    let batch = acme.note(AuditAction::ServiceTokenRotated).replace(Row::Token(third.clone()));
    commit(&*store, batch).await;
    for digest in [token.digest, second.digest] {
        assert_eq!(store.find_token(&[digest]).await.unwrap(), None, "the secret has ended");
    }
    assert_eq!(store.find_token(&[third.digest]).await.unwrap(), Some(third));
}

pub async fn tokens_of_a_tenant_are_listed_in_the_order_of_their_creation(factory: &dyn Factory) {
    let store = factory.open().await;
    // One id is a prefix of the other: concatenated keys would mix them up.
    let (mut acme, mut acme2) = (tenant("acme"), tenant("acme2"));
    let mut tokens = Vec::new();
    for name in ["zeta", "Alpha", "middle"] {
        tokens.push(created(&*store, &mut acme, name).await);
        acme.now = acme.now.plus(SECOND);
        created(&*store, &mut acme2, name).await;
    }
    tokens.push(verifier(&*store, &mut acme, "Beta").await);
    assert_eq!(store.list_tokens(&acme.id).await.unwrap(), tokens);
    assert_eq!(store.list_tokens(&acme2.id).await.unwrap().len(), 3);
    assert_eq!(store.list_tokens(&tenant("acm").id).await.unwrap(), []);
}

pub async fn names_of_tokens_are_unique_by_kind_and_tenant(factory: &dyn Factory) {
    let store = factory.open().await;
    let (mut acme, mut bolt) = (tenant("acme"), tenant("bolt"));
    let first = created(&*store, &mut acme, "Straße").await;
    let other = created(&*store, &mut acme, "Other").await;
    verifier(&*store, &mut acme, "Straße").await;
    created(&*store, &mut bolt, "Straße").await;

    for name in ["Straße", "STRASSE"] {
        let token = acme.service_token(name);
        let issue = acme.issue(&token);
        assert_eq!(refused(&*store, issue).await, Conflict::TokenNameTaken);
    }
    let (one, same) = (acme.service_token("twice"), acme.service_token("Twice"));
    let batch = acme.issue(&one).insert(Row::Token(same));
    assert_eq!(refused(&*store, batch).await, Conflict::TokenNameTaken);
    rotated(&*store, &mut acme, &other).await;

    let batch = acme.note(AuditAction::ServiceTokenRevoked).delete(&Row::Token(first));
    commit(&*store, batch).await;
    created(&*store, &mut acme, "strasse").await;
}

pub async fn one_of_20_concurrent_creations_of_a_token_succeeds(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let mut acme = tenant("acme");
    let tokens: Vec<_> = (0..20).map(|_| acme.service_token("Backend")).collect();
    let batches: Vec<Batch> = tokens.iter().map(|token| acme.issue(token)).collect();
    let (accepted, conflicts) = one_of(&instances, batches).await;
    assert_eq!(conflicts, [Conflict::TokenNameTaken; 19]);
    assert_eq!(instances[0].list_tokens(&acme.id).await.unwrap(), [tokens[accepted].clone()]);
}

pub async fn deleted_token_is_not_found(factory: &dyn Factory) {
    let store = factory.open().await;
    let mut acme = tenant("acme");
    let first = created(&*store, &mut acme, "Backend").await;
    let token = rotated(&*store, &mut acme, &first).await;
    let stale = acme.note(AuditAction::ServiceTokenRevoked).delete(&Row::Token(first.clone()));
    assert_eq!(refused(&*store, stale).await, Conflict::Row);
    assert_eq!(store.find_token_by_id(token.id).await.unwrap(), Some(token.clone()));

    let mut follower = follow(&*store, None).await;
    let batch = acme.note(AuditAction::ServiceTokenRevoked).delete(&Row::Token(token.clone()));
    commit(&*store, batch.clone()).await;
    assert_eq!(follower.next().await.writes, [Write::Delete(RowId::Token(token.id))]);
    assert_eq!(store.find_token_by_id(token.id).await.unwrap(), None);
    assert_eq!(store.find_token(&[first.digest, token.digest]).await.unwrap(), None);
    assert_eq!(store.list_tokens(&acme.id).await.unwrap(), []);
    let repeated = acme.note(AuditAction::ServiceTokenRevoked).delete(&Row::Token(token));
    assert_eq!(refused(&*store, repeated).await, Conflict::Row);
}

async fn created(store: &dyn Store, tenant: &mut Tenant, name: &str) -> Token {
    let token = tenant.service_token(name);
    let issue = tenant.issue(&token);
    commit(store, issue).await;
    token
}

async fn verifier(store: &dyn Store, tenant: &mut Tenant, name: &str) -> Token {
    let token = Token { kind: TokenKind::Verifier, ..tenant.service_token(name) };
    let issue = tenant.issue(&token);
    commit(store, issue).await;
    token
}

/// The token with another secret, beside which the one before is valid for a second.
async fn rotated(store: &dyn Store, tenant: &mut Tenant, token: &Token) -> Token {
    let digest = tenant.digest();
    let rotated = token.rotate(digest, token.mark, SECOND, None, tenant.now).expect("no secret is retiring");
    let batch = tenant.note(AuditAction::ServiceTokenRotated).replace(Row::Token(rotated.clone()));
    commit(store, batch).await;
    rotated
}
