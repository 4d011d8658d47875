//! Lists: pages in both directions, cursors and searches.

use serde_json::{Value as Json, json};

use crate::support::actors::{Answer, App, Operator, SECRET, Setup};
use crate::support::on_both_stores;
use crate::support::sockets::Event;

on_both_stores![
    list_pages_forwards_and_backwards_in_every_order,
    page_follows_its_cursor_while_systems_are_created_and_deleted,
    search_matches_literally_and_ignores_case,
];

const PAGE: &str =
    "query ($search: String, $order: SystemOrder, $first: Int, $after: String, $last: Int, $before: String) {
    systems(search: $search, orderBy: $order, first: $first, after: $after, last: $last, before: $before) {
        edges { cursor node { name } } nodes { name } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

async fn page(operator: &Operator<'_>, variables: Json) -> Answer {
    operator.query(PAGE, variables).await
}

fn names(answer: &Answer) -> Vec<&str> {
    let edges = answer.data("systems.edges").as_array().unwrap();
    let names: Vec<_> = edges.iter().map(|edge| edge["node"]["name"].as_str().unwrap()).collect();
    let nodes = answer.data("systems.nodes").as_array().unwrap();
    assert_eq!(nodes.iter().map(|node| node["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
    names
}

async fn five_systems<'a>(app: &'a App) -> Operator<'a> {
    let operator = app.operator(&["view", "create", "edit", "delete"]).await;
    for name in ["Delta", "alpha", "Echo", "bravo", "Charlie"] {
        app.clock.advance(std::time::Duration::from_secs(1));
        operator.create_system(name).await;
    }
    operator
}

async fn list_pages_forwards_and_backwards_in_every_order(app: App) {
    let operator = five_systems(&app).await;
    let by_name = ["alpha", "bravo", "Charlie", "Delta", "Echo"];
    let by_age = ["Delta", "alpha", "Echo", "bravo", "Charlie"];
    for (field, sorted) in [("NAME", by_name), ("CREATED_AT", by_age), ("UPDATED_AT", by_age)] {
        for direction in ["ASC", "DESC"] {
            let mut expected = sorted.to_vec();
            if direction == "DESC" {
                expected.reverse();
            }
            let order = json!({ "field": field, "direction": direction });
            let (mut forwards, mut after) = (Vec::new(), json!(null));
            let (mut backwards, mut before) = (Vec::new(), json!(null));
            for pages_left in (0..3).rev() {
                let next = page(&operator, json!({ "order": order, "first": 2, "after": after })).await;
                forwards.extend(names(&next).into_iter().map(str::to_owned));
                assert_eq!(next.data("systems.totalCount"), 5);
                assert_eq!(next.data("systems.pageInfo.hasNextPage"), pages_left > 0);
                after = next.data("systems.pageInfo.endCursor").clone();
                let previous = page(&operator, json!({ "order": order, "last": 2, "before": before })).await;
                backwards.splice(0..0, names(&previous).into_iter().map(str::to_owned));
                assert_eq!(previous.data("systems.pageInfo.hasPreviousPage"), pages_left > 0);
                before = previous.data("systems.pageInfo.startCursor").clone();
            }
            assert_eq!(
                (&forwards, &backwards),
                (&expected.iter().map(|n| (*n).to_owned()).collect(), &forwards),
                "{field} {direction}"
            );
        }
    }
    let first = page(&operator, json!({ "first": 1 })).await;
    assert_eq!(first.data("systems.edges.0.cursor"), first.data("systems.pageInfo.startCursor"));
    let empty = page(&operator, json!({ "search": "nothing of the kind" })).await;
    assert_eq!(
        empty.data("systems.pageInfo"),
        &json!({
            "hasNextPage": false, "hasPreviousPage": false, "startCursor": null, "endCursor": null,
        })
    );
}

async fn page_follows_its_cursor_while_systems_are_created_and_deleted(app: App) {
    let operator = five_systems(&app).await;
    let first = page(&operator, json!({ "first": 2 })).await;
    let (after, shown) = (first.data("systems.pageInfo.endCursor").clone(), names(&first));
    assert_eq!(shown, ["alpha", "bravo"]);
    let bravo = operator.query("{ systems(search: \"bravo\") { nodes { id } } }", json!({})).await;
    operator.delete_system(bravo.data("systems.nodes.0.id").as_str().unwrap()).await;
    operator.create_system("Aardvark").await;
    operator.create_system("Bravissimo").await;
    let next = page(&operator, json!({ "first": 2, "after": after })).await;
    assert_eq!(names(&next), ["Charlie", "Delta"], "nothing is shown twice or left out");
}

#[tokio::test]
async fn page_size_out_of_range_is_refused() {
    let app = App::embedded().await;
    let operator = five_systems(&app).await;
    let mut refusals = Vec::new();
    for variables in [
        json!({ "first": 0 }),
        json!({ "first": -1 }),
        json!({ "first": 201 }),
        json!({ "last": 0 }),
        json!({ "last": 201 }),
        json!({ "first": 1, "last": 1 }),
        json!({ "first": i32::MAX }),
    ] {
        let answer = page(&operator, variables.clone()).await;
        assert_eq!(answer.code(), Some("BAD_USER_INPUT"), "{variables}: {}", answer.text);
        refusals.push(answer.error());
    }
    insta::assert_json_snapshot!(refusals, @r#"
    [
      {
        "extensions": {
          "code": "BAD_USER_INPUT"
        },
        "message": "`first` and `last` must be between 1 and 200."
      },
      {
        "extensions": {
          "code": "BAD_USER_INPUT"
        },
        "message": "`first` and `last` must be between 1 and 200."
      },
      {
        "extensions": {
          "code": "BAD_USER_INPUT"
        },
        "message": "`first` and `last` must be between 1 and 200."
      },
      {
        "extensions": {
          "code": "BAD_USER_INPUT"
        },
        "message": "`first` and `last` must be between 1 and 200."
      },
      {
        "extensions": {
          "code": "BAD_USER_INPUT"
        },
        "message": "`first` and `last` must be between 1 and 200."
      },
      {
        "extensions": {
          "code": "BAD_USER_INPUT"
        },
        "message": "Set either `first` or `last`, not both."
      },
      {
        "extensions": {
          "code": "BAD_USER_INPUT"
        },
        "message": "`first` and `last` must be between 1 and 200."
      }
    ]
    "#);
    let audit = "query ($n: Int) { auditLog(first: $n) { nodes { id } } }";
    for n in [0, -1, 201] {
        assert_eq!(operator.query(audit, json!({ "n": n })).await.code(), Some("BAD_USER_INPUT"), "{n}");
    }
    for absent in [json!({}), json!({ "first": null, "last": null, "after": null, "before": null, "search": null })] {
        assert_eq!(names(&page(&operator, absent).await).len(), 5);
    }
    assert_eq!(names(&page(&operator, json!({ "first": 200 })).await).len(), 5);
}

#[tokio::test]
async fn too_large_page_is_bad_user_input_and_not_too_complex() {
    let app = App::embedded().await;
    let operator = five_systems(&app).await;
    for list in ["systems", "auditLog"] {
        for end in ["first", "last"] {
            for n in [201, 20_000, i32::MAX] {
                let literal =
                    operator.query(&format!("{{ {list}({end}: {n}) {{ nodes {{ id }} }} }}"), json!({})).await;
                assert_eq!(literal.code(), Some("BAD_USER_INPUT"), "{list} {end} {n}: {}", literal.text);
                let document = format!("query ($n: Int) {{ {list}({end}: $n) {{ nodes {{ id }} }} }}");
                let variable = operator.query(&document, json!({ "n": n })).await;
                assert_eq!(variable.code(), Some("BAD_USER_INPUT"), "{list} {end} {n}: {}", variable.text);
            }
        }
    }
}

#[tokio::test]
async fn cursor_is_bound_to_its_tenant_list_and_order() {
    let app = App::embedded().await;
    let operator = five_systems(&app).await;
    let cursor =
        page(&operator, json!({ "first": 1 })).await.data("systems.pageInfo.endCursor").as_str().unwrap().to_owned();
    let audit = operator.newest_cursor().await;
    let mut tampered = cursor.clone().into_bytes();
    tampered[30] = if tampered[30] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).unwrap();
    let other = app.operator_of("other", &["view"]).await;
    let by_name_backwards = json!({ "field": "NAME", "direction": "DESC" });
    let by_age = json!({ "field": "CREATED_AT", "direction": "ASC" });
    for (who, variables) in [
        (&operator, json!({ "after": tampered })),
        (&operator, json!({ "before": tampered })),
        (&operator, json!({ "after": audit })),
        (&operator, json!({ "after": "" })),
        (&operator, json!({ "after": "not a cursor" })),
        (&operator, json!({ "after": cursor, "order": by_name_backwards })),
        (&operator, json!({ "after": cursor, "order": by_age })),
        (&other, json!({ "after": cursor })),
    ] {
        let answer = page(who, variables.clone()).await;
        assert_eq!(answer.code(), Some("BAD_USER_INPUT"), "{variables}: {}", answer.text);
        assert_eq!(
            answer.error()["message"],
            "The cursor does not belong to this list. Use one that this list returned in the same order."
        );
    }
    let log = "query ($after: String) { auditLog(after: $after) { nodes { id } } }";
    for (who, after) in [(&operator, cursor.as_str()), (&other, &audit), (&operator, "x")] {
        assert_eq!(who.query(log, json!({ "after": after })).await.code(), Some("BAD_USER_INPUT"), "{after}");
    }
    let document = "subscription ($after: String) { systemChanged(after: $after) { cursor } }";
    for (who, after) in [(&operator, cursor.as_str()), (&other, &audit), (&operator, "x")] {
        let mut subscription = who.subscribe(document, json!({ "after": after })).await;
        assert_eq!(subscription.event().await, Event::Error("BAD_USER_INPUT".to_owned()));
    }
}

#[tokio::test]
async fn cursor_of_a_previous_secret_is_valid_while_the_secret_is_configured() {
    let app = App::embedded().await;
    let operator = five_systems(&app).await;
    let cursor = page(&operator, json!({ "first": 1 })).await.data("systems.pageInfo.endCursor").clone();
    let setup = Setup {
        secret: "another root secret, which replaces the first",
        previous_secrets: &[SECRET],
        ..Setup::default()
    };
    let replaced = app.instance_with(2, setup).await;
    let answer = page(&operator.at(&replaced), json!({ "first": 1, "after": cursor })).await;
    assert_eq!(names(&answer), ["bravo"]);
}

async fn search_matches_literally_and_ignores_case(app: App) {
    let operator = app.operator(&["view", "create"]).await;
    for name in ["Billing (a+)+$", "Payroll .*", "[x] Crédit", "$where {$ne: 1}", "Ｆull width"] {
        operator.create_system(name).await;
    }
    for (search, found) in [
        ("", 5),
        ("billing", 1),
        ("BILLING", 1),
        ("(a+)+$", 1),
        (".*", 1),
        ("[X]", 1),
        ("$", 2),
        ("{$ne", 1),
        ("crédit", 1),
        ("cre\u{301}dit", 1),
        ("full", 1),
        ("ＰＡＹ", 1),
        ("^", 0),
        ("b.lling", 0),
        ("[a-z]", 0),
        ("a\0b", 0),
        ("l", 3),
    ] {
        let answer = page(&operator, json!({ "search": search })).await;
        assert_eq!((names(&answer).len(), answer.data("systems.totalCount")), (found, &json!(found)), "{search:?}");
    }
    let long = "x".repeat(10_000);
    assert_eq!(names(&page(&operator, json!({ "search": long })).await).len(), 0);
}
