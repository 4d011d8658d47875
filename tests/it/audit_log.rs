//! The audit log: entries of refused attempts, reading, export, and the verification of the chain.

use std::time::Duration;

use futures::StreamExt;
use http::Method;
use mongodb::bson::{Document, doc};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::support::actors::{ALL, App, Operator, PASSWORD};
use crate::support::{on_both_stores, within};

on_both_stores![
    attempts_that_are_worth_a_look_are_entries,
    the_log_is_filtered_and_counted,
    the_chain_can_be_checked_from_an_export_by_anybody,
];

async fn refused(app: &App) -> Vec<Json> {
    let log = app.log_of("acme").await;
    log.into_iter().map(|mut entry| entry["event"].take()).filter(|event| event["outcome"] == "REFUSED").collect()
}

async fn attempts_that_are_worth_a_look_are_entries(app: App) {
    let operator = app.operator(&ALL).await;
    let system = operator.create_system("Billing").await;
    let key = operator.generate_key(&system.id).await;
    operator.revoke_key(&system.id).await;
    let weak = app.operator(&[]).await;

    weak.try_create_system("Payroll").await;
    app.anonymous().from("192.0.2.7").sign_in(&weak.username, "wrong password").await;
    weak.change_password("wrong password", "a new password").await;
    app.verifier().code(&key.api_key).await;
    // None of these is recorded: an unknown username, a name that is taken, a key that is absent or malformed.
    app.anonymous().sign_in("nobody-at-all", "wrong password").await;
    operator.try_create_system("Billing").await;
    operator.try_revoke_key(&system.id).await;
    app.verifier().code("nonsense").await;

    let mut told = refused(&app).await;
    told.sort_by_key(|event| event["action"].to_string());
    let actions: Vec<_> = told.iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["PERMISSION_REFUSED", "REVOKED_KEY_PRESENTED", "SIGN_IN_REFUSED", "SIGN_IN_REFUSED"]);
    let permission = &told[0];
    assert_eq!(
        (&permission["errorCode"], &permission["permissions"]),
        (&json!("FORBIDDEN"), &json!(["api_key_management:create"]))
    );
    assert_eq!(permission["actor"]["name"], weak.username.as_str());
    let presented = &told[1];
    assert_eq!((&presented["system"], &presented["keyMark"]), (&json!(system.id), &json!(key.system.key_mark)));
    assert_eq!(presented["actor"]["kind"], "ANONYMOUS");
    assert!(told[2..].iter().all(|event| event["errorCode"] == "INVALID_CREDENTIALS"), "{told:?}");
    assert!(told[2..].iter().any(|event| event["sourceAddress"] == "192.0.2.7"));
}

#[tokio::test]
async fn refused_attempts_are_entries_ten_a_minute_and_the_rest_is_counted_into_the_next() {
    let app = App::embedded().await;
    let operator = app.operator(&[]).await;
    for _ in 0..25 {
        assert_eq!(operator.try_create_system("Billing").await.code(), Some("FORBIDDEN"));
    }
    let counts = |events: &[Json]| events.iter().map(|event| event["count"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(counts(&refused(&app).await), [1; 10]);
    app.clock.advance(Duration::from_secs(60));
    operator.try_create_system("Billing").await;
    assert_eq!(counts(&refused(&app).await)[10..], [16]);
    for _ in 0..12 {
        operator.try_create_system("Billing").await;
    }
    app.clock.advance(Duration::from_secs(60));
    app.service.write_due_refusals().await;
    let counts = counts(&refused(&app).await);
    assert_eq!(counts.iter().sum::<u64>(), 38, "{counts:?}: none is lost");
}

#[tokio::test]
async fn what_is_counted_still_can_be_written_at_once_and_is_written_once() {
    let app = App::embedded().await;
    let (operator, other) = (app.operator(&[]).await, app.operator_of("other", &[]).await);
    for operator in [&operator, &other] {
        for _ in 0..25 {
            operator.try_create_system("Billing").await;
        }
        operator.query("mutation { deleteSystem(id: \"x\") { deletedSystemId } }", json!({})).await;
    }
    for _ in 0..2 {
        app.service.write_remaining_refusals().await;
        for tenant in ["acme", "other"] {
            let log = app.log_of(tenant).await;
            let refused: Vec<_> = log.iter().filter(|entry| entry["event"]["outcome"] == "REFUSED").collect();
            let count: u64 = refused.iter().map(|entry| entry["event"]["count"].as_u64().unwrap()).sum();
            // Those without the code to create are counted apart from the one without the code to delete.
            assert_eq!((refused.len(), count), (12, 26), "{tenant}");
        }
    }
}

/// A log with something of everything, by several people.
async fn eventful<'a>(app: &'a App) -> Operator<'a> {
    let operator = app.operator(&ALL).await;
    for name in ["=HYPERLINK(\"http://x\")", "+1 call", "-1 minus", "@sum system", "Plain, \"quoted\"", "日本語 system"]
    {
        app.clock.advance(Duration::from_secs(1));
        let system = operator.create_system(name).await;
        operator.generate_key(&system.id).await;
    }
    let weak = app.operator(&["view"]).await;
    weak.try_create_system("Payroll").await;
    weak.sign_out().await;
    operator
}

async fn the_log_is_filtered_and_counted(app: App) {
    let operator = eventful(&app).await;
    let viewer = operator.query("{ viewer { id } systems { nodes { id keyMark } } }", json!({})).await;
    let (actor, system) = (viewer.data("viewer.id"), viewer.data("systems.nodes.0.id"));
    let mark = viewer.data("systems.nodes.0.keyMark");
    let document = "query ($filter: AuditFilter) { auditLog(filter: $filter, first: 200) { totalCount
        nodes { number action outcome systemId actor { id } occurredAt } pageInfo { hasNextPage } } }";
    let all = operator.query(document, json!({})).await;
    let numbers: Vec<_> =
        all.data("auditLog.nodes").as_array().unwrap().iter().map(|n| n["number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().rev().copied().eq(1..=numbers.len() as u64), "newest first and gapless: {numbers:?}");
    for (filter, expected) in [
        (json!({}), numbers.len()),
        (json!({ "systemId": system }), 2),
        (json!({ "actorId": actor }), 13),
        (json!({ "actions": ["KEY_GENERATED"] }), 6),
        (json!({ "actions": ["KEY_GENERATED", "SIGNED_OUT"] }), 7),
        (json!({ "actions": [] }), 0),
        (json!({ "outcome": "REFUSED" }), 1),
        (json!({ "systemId": system, "actions": ["KEY_GENERATED"], "outcome": "DONE" }), 1),
        (json!({ "from": "2023-11-14T22:13:22Z", "to": "2023-11-14T22:13:24.000+00:00" }), 4),
        (json!({ "from": "2024-01-01T00:00:00Z" }), 0),
        (json!({ "keyMark": mark }), 1),
        (json!({ "keyMark": "no mark" }), 0),
        (json!({ "systemId": "no id at all" }), 0),
        (json!({ "actorId": "op_01HF7YAT00000000000000000X" }), 0),
    ] {
        let found = operator.query(document, json!({ "filter": filter })).await;
        let nodes = found.data("auditLog.nodes").as_array().unwrap();
        assert_eq!((nodes.len(), found.data("auditLog.totalCount")), (expected, &json!(expected)), "{filter}");
    }
    let export = operator.get(&format!("/audit/export?format=jsonl&keyMark={}", mark.as_str().expect("a mark"))).await;
    let actions = |text: &str| export.text.matches(text).count();
    assert_eq!((actions("KEY_GENERATED"), actions("SYSTEM_CREATED"), actions("SIGNED_IN")), (1, 0, 0));
    assert_eq!(operator.get("/audit/export?format=jsonl&keyMark=nomark").await.status.as_u16(), 400);
}

#[tokio::test]
async fn a_filter_with_a_field_that_is_none_is_refused_whatever_the_variables_are() {
    let app = App::embedded().await;
    let operator = app.operator(&ALL).await;
    let misspelt = "query ($a: [AuditAction!]) { auditLog(filter: { actions: $a, sytemId: \"x\" }) { totalCount } }";
    for variables in [json!({}), json!({ "a": null }), json!({ "a": [] }), json!({ "a": ["SIGNED_IN"] })] {
        let answer = operator.query(misspelt, variables.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (400, Some("BAD_USER_INPUT")),
            "{variables}: {}",
            answer.text
        );
        assert_eq!(answer.body.get("data"), None, "a request that is wrong is not executed: {}", answer.text);
    }
    let right = misspelt.replace("sytemId", "systemId");
    assert_eq!(operator.query(&right, json!({})).await.data("auditLog.totalCount"), 0);
}

/// The cells of the last line of CSV: a word, nothing, and the checkpoint as JSON.
fn checkpoint_cells(export: &str) -> Vec<String> {
    let line = export.lines().last().expect("a line");
    let (word, rest) = line.split_once(',').expect("cells");
    let (nothing, json) = rest.split_once("\"{").expect("JSON");
    assert_eq!((word, nothing, nothing.len()), ("#checkpoint", ",".repeat(19).as_str(), 19));
    let json = format!("{{{}", json.trim_end_matches('"').replace("\"\"", "\""));
    let checkpoint: Json = serde_json::from_str(&json).expect("JSON");
    assert_eq!(checkpoint["checkpoint"]["tenant"], "acme");
    let mut cells = vec![String::new(); 21];
    (cells[0], cells[20]) = (word.to_owned(), json);
    cells
}

#[tokio::test]
async fn a_csv_export_opens_in_a_spreadsheet_without_running_anything() {
    let app = App::embedded().await;
    let operator = eventful(&app).await;
    let export = operator.get("/audit/export?format=csv&actions=SYSTEM_CREATED,SIGNED_OUT").await;
    assert_eq!(export.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert_eq!(export.header("content-disposition"), Some("attachment; filename=\"keymark-audit.csv\""));
    let mut reader = csv::Reader::from_reader(export.text.as_bytes());
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let (action, name) = (column("action"), column("systemName"));
    let mut rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert!(rows.pop().expect("a checkpoint").iter().eq(checkpoint_cells(&export.text)));
    let names: Vec<_> = rows.iter().map(|row| (&row[action], &row[name])).collect();
    assert_eq!(
        names,
        [
            ("SYSTEM_CREATED", "'=HYPERLINK(\"http://x\")"),
            ("SYSTEM_CREATED", "'+1 call"),
            ("SYSTEM_CREATED", "'-1 minus"),
            ("SYSTEM_CREATED", "'@sum system"),
            ("SYSTEM_CREATED", "Plain, \"quoted\""),
            ("SYSTEM_CREATED", "日本語 system"),
            ("SIGNED_OUT", ""),
        ]
    );
    assert!(rows.iter().flat_map(|row| row.iter()).all(|cell| !cell.starts_with(['=', '+', '-', '@', '\t', '\r'])));
}

/// The canonical form of the hash chain, written anew from its description: members sorted, no white space.
fn canonical(value: &Json) -> String {
    match value {
        Json::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            let members = sorted.iter().map(|(name, value)| format!("{}:{}", json!(name), canonical(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Json::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

/// Checks the chain of an export by itself; the number of the first entry that is not what was written.
fn first_bad_entry(export: &str) -> Option<u64> {
    let (mut previous, mut expected) = (vec![0; 32], 0);
    for line in export.lines() {
        let entry: Json = serde_json::from_str(line).expect("a line of JSON");
        if entry.get("checkpoint").is_some() {
            continue;
        }
        expected += 1;
        let covered = json!({ "event": entry["event"], "number": entry["number"], "tenant": entry["tenant"] });
        let mut hasher = Sha256::new();
        hasher.update(&previous);
        hasher.update(canonical(&covered));
        let hash = hex::decode(entry["hash"].as_str().unwrap()).unwrap();
        if entry["number"] != expected || hasher.finalize().as_slice() != hash.as_slice() {
            return Some(expected);
        }
        previous = hash;
    }
    None
}

async fn the_chain_can_be_checked_from_an_export_by_anybody(app: App) {
    let operator = eventful(&app).await;
    let export = operator.get("/audit/export?format=jsonl").await;
    assert_eq!(export.header("content-type"), Some("application/jsonl; charset=utf-8"));
    let mut lines: Vec<_> = export.text.lines().collect();
    let checkpoint: Json = serde_json::from_str(lines.pop().expect("a checkpoint")).expect("a line of JSON");
    assert_eq!(checkpoint["checkpoint"]["number"], lines.len());
    assert_eq!(first_bad_entry(&export.text), None);
    assert!(lines.last().unwrap().contains("AUDIT_EXPORTED"), "an export is in the log itself");
    let tampered = export.text.replacen("Plain, ", "Pla1n, ", 1);
    assert!(first_bad_entry(&tampered).is_some());
    let shortened: Vec<_> = lines.iter().enumerate().filter(|(at, _)| *at != 4).map(|(_, line)| *line).collect();
    assert_eq!(first_bad_entry(&shortened.join("\n")), Some(5));

    let from_the_command_line = app.cli(&["audit", "export", "--tenant", "acme"]).await;
    let text = String::from_utf8(from_the_command_line.stdout).unwrap();
    assert!(text.starts_with(&lines.join("\n")), "the same entries");
    assert_eq!(first_bad_entry(&text), None);
    let verified = app.cli(&["audit", "verify"]).await;
    let text = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(text, format!("acme: {} entries, the chain is intact\n", lines.len() + 1));
}

#[tokio::test]
async fn a_log_that_somebody_changed_is_found_out() {
    let app = App::mongodb().await;
    eventful(&app).await;
    let log = app.database().await.collection::<Document>("audit");
    let changed = doc! { "$set": { "event.systemName": "Forged" } };
    log.update_one(doc! { "tenant": "acme", "number": 5_i64 }, changed).await.expect("changed");
    let verified = app.cli(&["audit", "verify"]).await;
    let said = String::from_utf8(verified.stderr).unwrap();
    assert_eq!(verified.status.code(), Some(1));
    assert!(said.contains("acme: entry 5, or the one before it, was modified"), "{said}");
    log.delete_one(doc! { "tenant": "acme", "number": 4_i64 }).await.expect("deleted");
    let verified = app.cli(&["audit", "verify", "--tenant", "acme"]).await;
    let said = String::from_utf8(verified.stderr).unwrap();
    assert!(said.contains("acme: entry 4 is missing: found entry 5 in its place"), "{said}");
    let changed = doc! { "$set": { "event.action": "NONSENSE" } };
    log.update_one(doc! { "tenant": "acme", "number": 3_i64 }, changed).await.expect("changed");
    let verified = app.cli(&["audit", "verify"]).await;
    let said = String::from_utf8(verified.stderr).unwrap();
    assert!(said.contains("acme: entry 3 cannot be parsed: it was modified"), "{said}");
    for command in ["verify", "export"] {
        let mistyped = app.cli(&["audit", command, "--tenant", "acne"]).await;
        let said = String::from_utf8(mistyped.stderr).unwrap();
        assert!(mistyped.status.code() == Some(1) && said.contains("tenant acne not found"), "{said}");
    }
}

#[tokio::test]
async fn an_export_ends_with_the_code_that_it_needs() {
    let app = App::embedded().await;
    let operator = app.operator(&["view", "create", "edit"]).await;
    let system = operator.create_system("Renamed all the time").await;
    // More than is read at once.
    for i in 0..510 {
        operator.rename_system(&system.id, &format!("Renamed {i}")).await;
    }
    let export = operator.begin(Method::GET, "/audit/export?format=csv", &[], String::new()).await;
    let mut parts = export.into_body().into_data_stream();
    assert!(within(parts.next()).await.expect("the columns").is_ok());
    assert!(within(parts.next()).await.expect("a page").is_ok_and(|page| page.len() > 10_000));
    operator.may(&["create", "edit"]).await;
    assert!(within(parts.next()).await.expect("an end").is_err(), "cut off, so that the client notices");
}

#[tokio::test]
async fn an_export_holds_what_was_asked_for_and_says_what_it_cannot_read() {
    let app = App::embedded().await;
    let operator = eventful(&app).await;
    let viewer = operator.query("{ viewer { id } systems { nodes { id keyMark } } }", json!({})).await;
    let system = viewer.data("systems.nodes.0.id").as_str().unwrap().to_owned();
    for (parameters, expected) in [
        (format!("&systemId={system}"), 2),
        ("&outcome=REFUSED".to_owned(), 1),
        ("&actions=KEY_GENERATED,SIGNED_OUT&outcome=DONE".to_owned(), 7),
        ("&from=2023-11-14T22:13:22Z&to=2023-11-14T22:13:24Z".to_owned(), 4),
        ("&from=2024-01-01T00:00:00Z".to_owned(), 0),
        ("&systemId=&actorId=&from=".to_owned() + "&outcome=REFUSED", 1),
    ] {
        let export = operator.get(&format!("/audit/export?format=jsonl{parameters}")).await;
        assert_eq!((export.status.as_u16(), export.text.lines().count()), (200, expected + 1), "{parameters}");
    }
    for parameters in
        ["", "?format=xml", "?format=csv&actions=NONSENSE", "?format=csv&from=yesterday", "?format=csv&colour=red"]
    {
        let refused = operator.get(&format!("/audit/export{parameters}")).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code()),
            (400, Some("BAD_USER_INPUT")),
            "{parameters}: {}",
            refused.text
        );
    }
    assert_eq!(app.anonymous().get("/audit/export?format=csv").await.status, 401);
    let entries = app.log_of("acme").await.len();
    let head = operator.send(Method::HEAD, "/audit/export?format=csv", &[], String::new()).await;
    assert_eq!((head.status.as_u16(), head.header("allow")), (405, Some("GET")));
    assert_eq!(app.log_of("acme").await.len(), entries, "nothing was exported");
    let weak = app.operator(&["create", "edit", "delete"]).await;
    let forbidden = weak.get("/audit/export?format=csv").await;
    assert_eq!((forbidden.status.as_u16(), forbidden.code()), (403, Some("FORBIDDEN")));
    let theirs = app.operator_of("theirs", &["view"]).await;
    let export = theirs.get("/audit/export?format=jsonl").await;
    assert!(!export.text.contains("acme") && export.text.lines().count() == 4, "{}", export.text);
}

#[tokio::test]
async fn operators_changes_are_entries() {
    let app = App::embedded().await;
    let operator = app.operator(&["view"]).await;
    operator.may(&["view", "edit"]).await;
    operator.may(&["view", "edit"]).await;
    operator.change_password(PASSWORD, "a new password").await;
    operator.be_removed().await;
    let log = app.log_of("acme").await;
    let told: Vec<_> = log
        .iter()
        .map(|entry| {
            let event = &entry["event"];
            let text = |value: &Json| value.as_str().unwrap_or("-").to_owned();
            (text(&event["action"]), text(&event["actor"]["kind"]), event["operatorName"] == operator.username.as_str())
        })
        .collect();
    let told: Vec<_> = told.iter().map(|(action, kind, about)| (action.as_str(), kind.as_str(), *about)).collect();
    assert_eq!(
        told,
        [
            ("OPERATOR_ADDED", "COMMAND_LINE", true),
            ("SIGNED_IN", "OPERATOR", false),
            ("PERMISSIONS_CHANGED", "COMMAND_LINE", true),
            ("PASSWORD_CHANGED", "OPERATOR", true),
            ("OPERATOR_REMOVED", "COMMAND_LINE", true),
        ]
    );
}
