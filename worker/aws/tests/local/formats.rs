//! Items that a newer release wrote: read by nobody here, shown by what stands beside them, and never written over.

use lamplighter_events::CommandId;
use lamplighter_lifecycle::{Phase, STORED_FORMAT, Seat, SeatChange};
use lamplighter_runtime::ports::{CallError, Committed, Disposition, Stored};
use serde_json::{Value, json};

use super::{Bench, KEEPER, bench, command, commit, of, options, outcome, record};

/// As the newer release would have written it.
async fn make_newer(bench: &Bench, pk: &str, sk: &str) {
    let body = json!({
        "TableName": bench.names.table,
        "Key": { "pk": { "S": pk }, "sk": { "S": sk } },
        "UpdateExpression": "SET #format = :format",
        "ExpressionAttributeNames": { "#format": "format" },
        "ExpressionAttributeValues": { ":format": { "N": (STORED_FORMAT + 1).to_string() } },
    });
    dynamodb(bench, "UpdateItem", &body).await;
}

async fn dynamodb(bench: &Bench, operation: &str, body: &Value) -> Value {
    let scope = "Credential=worker/20261130/us-east-1/dynamodb/aws4_request";
    let answer = reqwest::Client::new()
        .post(bench.endpoint.url())
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
        .header("x-amz-date", "20261130T000000Z")
        .header(
            "authorization",
            format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"),
        )
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{operation}: {status}: {text}");
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn check_newer<T: std::fmt::Debug>(result: Result<T, CallError>) {
    let error = result.unwrap_err();
    assert_eq!(error.disposition, Disposition::Newer, "{error}");
    assert!(error.message.contains("of a newer release"), "{error}");
}

#[tokio::test]
async fn a_newer_record_is_shown_in_lists_and_decided_by_nobody() {
    let bench = bench(options()).await;
    let store = &bench.ports.store;
    let mut keeper = record("keeper", 1);
    keeper.phase = Phase::On;
    let other = record("other", 1);
    for one in [&keeper, &other] {
        let done = store.commit(&commit(one.clone(), "n-1")).await.unwrap();
        assert_eq!(done, Committed::Done);
    }
    make_newer(&bench, "TARGET#keeper", "RECORD").await;
    check_newer(store.load(&keeper.target).await);
    let all = store.load_all(&[keeper.target.clone(), other.target.clone()]).await.unwrap();
    assert_eq!(all.len(), 2, "one that cannot be read hides no other");
    for stored in all {
        match &stored {
            Stored::Record(found) => assert_eq!(**found, other),
            Stored::Unreadable { outline, .. } => {
                assert_eq!((&outline.target, outline.phase), (&keeper.target, Phase::On));
                assert_eq!((outline.rev, &outline.resource), (1, &of(KEEPER)));
                assert!(outline.why.contains("of a newer release"), "{}", outline.why);
            }
        }
    }
    let up = [store.up(0).await.unwrap(), store.up(1).await.unwrap()].concat();
    assert!(up.iter().any(|line| line.target == keeper.target), "{up:?}");
}

#[tokio::test]
async fn newer_items_are_not_written_over() {
    let bench = bench(options()).await;
    let store = &bench.ports.store;
    let template = record("walrus", 1).target;
    let mut first = commit(record("keeper", 1), "n-1");
    first.accepted = Some(command("c-1"));
    first.claims = Some(of(KEEPER));
    first.seat = Some(Seat { template: template.clone(), change: SeatChange::Take(1) });
    assert_eq!(store.commit(&first).await.unwrap(), Committed::Done);
    for (pk, sk) in [
        ("COMMAND#c-1", "COMMAND"),
        (&*format!("RESOURCE#{KEEPER}"), "RESOURCE"),
        ("TEMPLATE#walrus", "SEATS"),
    ] {
        make_newer(&bench, pk, sk).await;
    }
    let id = CommandId::parse("c-1").unwrap();
    check_newer(store.load_command(&id).await);
    check_newer(store.owner(&of(KEEPER)).await);
    check_newer(store.seats(&template).await);
    check_newer(store.put_command(&command("c-1")).await);
    let next = || commit(record("keeper", 2), "n-2");
    let mut again = next();
    again.accepted = Some(command("c-1"));
    check_newer(store.commit(&again).await);
    let mut ends = next();
    ends.outcomes = vec![outcome("c-1", "done")];
    check_newer(store.commit(&ends).await);
    let mut claims = next();
    claims.claims = Some(of(KEEPER));
    check_newer(store.commit(&claims).await);
    for change in [SeatChange::Take(9), SeatChange::Force, SeatChange::Leave] {
        let mut seats = next();
        seats.seat = Some(Seat { template: template.clone(), change });
        check_newer(store.commit(&seats).await);
    }
    check_newer(store.free_seat(&template, &first.record.target, 1).await);
    let found = store.load(&first.record.target).await.unwrap().unwrap();
    assert_eq!(found.rev, 1, "nothing of it was written");
}
