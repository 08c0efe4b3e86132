//! Operations that share a transaction, whose statements are sent without waiting for each answer.

use chassis_store::Store;
use futures_util::future::join_all;
use serde_json::json;

use crate::home::Home;
use crate::support::{agent, apply, code, events, spec};

/// Refuses the instances of every agent whose name ends so: what is found out only once it has been sent.
const REFUSE: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON instances FOR EACH ROW
        WHEN (NEW.agent LIKE '%-bad') EXECUTE FUNCTION refuse()";

#[tokio::test]
async fn a_statement_that_is_refused_undoes_its_own_operation_and_no_other() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    home.postgres().sql(home.database(), REFUSE);
    let names: Vec<String> =
        (0..200).map(|at| format!("agent{at}-{}", if at % 3 == 0 { "bad" } else { "good" })).collect();
    let commits = store.commits();
    let declared = join_all(names.iter().map(|name| apply(&store, vec![spec(name, json!({}))]))).await;
    assert!(store.commits() - commits < 50, "they did not come together");

    let mut good = 0;
    for (name, declared) in names.iter().zip(declared) {
        let loaded = store.agent_load(&agent("f", name)).await;
        if name.ends_with("-bad") {
            assert_eq!(code(declared), "store_unexpected");
            assert_eq!(code(loaded), "agent_not_found");
        } else {
            declared.unwrap();
            assert_eq!(loaded.unwrap().instances.len(), 1);
            good += 1;
        }
    }
    // The fleet's own, then two of each that is there, without gaps.
    let ids: Vec<u64> = events(&store).await.iter().map(|event| event.id).collect();
    assert_eq!(ids, (1..=1 + 2 * good).collect::<Vec<u64>>());
}
