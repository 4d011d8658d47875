//! Operators: added, changed, suspended and removed by administrators; and their sessions.

use serde_json::json;

use crate::support::actors::App;
use crate::support::on_both_stores;

on_both_stores![entries_of_commands_have_the_name_of_their_user];

async fn entries_of_commands_have_the_name_of_their_user(app: App) {
    let users: [(&[(&str, &str)], &[&str], &str); 4] = [
        (&[("USER", "root"), ("KEYMARK_OPERATOR", "other")], &["--as", "Ada (on call)"], "Ada (on call)"),
        (&[("USER", "root"), ("KEYMARK_OPERATOR", "grace")], &[], "grace"),
        (&[("USER", "linus"), ("LOGNAME", "other")], &[], "linus"),
        (&[("LOGNAME", "ken")], &[], "ken"),
    ];
    for (number, (variables, arguments, name)) in users.into_iter().enumerate() {
        let username = format!("added-{number}");
        let added = app.cli_with(variables, &[&["operator", "add", &username], arguments].concat()).await;
        assert!(added.status.success(), "{added:?}");
        let actor = app.log_of("default").await.pop().expect("an entry")["event"]["actor"].clone();
        assert_eq!(actor, json!({ "kind": "COMMAND_LINE", "name": format!("command line ({name})") }));
    }
    let exported = app.cli_with(&[], &["audit", "export", "--as", "auditor"]).await;
    assert!(exported.status.success(), "{exported:?}");
    let entry = app.log_of("default").await.pop().expect("an entry");
    assert_eq!(entry["event"]["actor"]["name"], "command line (auditor)");
    for bad in ["", " ada", "a\nb", "a\u{202e}b", &"a".repeat(65)] {
        let refused = app.cli(&["operator", "list", "--as", bad]).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("a name is 1 to 64 printable characters"), "{said}");
    }
}
