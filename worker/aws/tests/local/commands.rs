//! Several commands at once: one request for a hundred, and none is lost on the way.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

fn command_id(text: &str) -> CommandId {
    CommandId::parse(text).unwrap()
}

fn ids_of(found: &[CommandRecord]) -> Vec<&str> {
    let mut ids: Vec<&str> = found.iter().map(|command| command.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn several_commands_are_read_as_one_is() {
    let bench = bench(options()).await;
    let store = &bench.ports.store;
    let mut taken = commit(record("keeper", 1), "n-1");
    taken.accepted = Some(command("c-1"));
    assert_eq!(store.commit(&taken).await.unwrap(), Committed::Done);
    let mut ended = commit(record("keeper", 2), "n-2");
    ended.outcomes = vec![outcome("c-1", "it is on")];
    assert_eq!(store.commit(&ended).await.unwrap(), Committed::Done);
    assert_eq!(store.put_command(&command("c-2")).await.unwrap(), PutCommand::Done);
    // One twice, one that nobody sent.
    let ids = ["c-2", "c-1", "nobody", "c-2"].map(command_id);
    let mut found = store.load_commands(&ids).await.unwrap();
    found.sort_by(|one, other| one.id.cmp(&other.id));
    let first = store.load_command(&ids[1]).await.unwrap().unwrap();
    assert!(first.outcome.is_some());
    assert_eq!(found, [first, command("c-2")]);
    assert_eq!(store.load_commands(&[]).await.unwrap(), []);
}

/// How many requests it takes to read so many commands.
async fn check_requests(bench: &Bench, commands: usize, requests: u64) {
    let asked = |counts: &BTreeMap<String, u64>| counts.get("dynamodb:BatchGetItem").copied();
    let before = asked(&counts(bench).await).unwrap_or(0);
    let ids: Vec<CommandId> = (0..commands).map(|n| command_id(&format!("c-{n}"))).collect();
    let found = bench.ports.store.load_commands(&ids).await.unwrap();
    assert_eq!(found.len(), commands.min(3), "only three were sent");
    let after = asked(&counts(bench).await).unwrap_or(0);
    assert_eq!(after - before, requests, "{commands} commands");
}

#[tokio::test]
async fn a_hundred_commands_are_one_request() {
    let bench = bench(options()).await;
    for n in 0..3 {
        let command = command(&format!("c-{n}"));
        assert_eq!(bench.ports.store.put_command(&command).await.unwrap(), PutCommand::Done);
    }
    check_requests(&bench, 0, 0).await;
    check_requests(&bench, 1, 1).await;
    check_requests(&bench, 100, 1).await;
    check_requests(&bench, 101, 2).await;
}

/// A DynamoDB that gives these answers, one after the other, and hands on what it was asked.
async fn answers(bodies: Vec<String>) -> (String, mpsc::UnboundedReceiver<serde_json::Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, asks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for body in bodies {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut ask = vec![0; length];
            stream.read_exact(&mut ask).await.unwrap();
            asked.send(serde_json::from_slice(&ask).unwrap()).unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0";
            let length = body.len();
            let answer =
                format!("{head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (url, asks)
}

#[tokio::test]
async fn commands_that_dynamodb_left_out_are_asked_for_again() {
    let key = |name: &str| serde_json::json!({"pk": {"S": format!("COMMAND#{name}")}, "sk": {"S": "COMMAND"}});
    let item = |name: &str| {
        let mut item = key(name);
        item["doc"] = serde_json::json!({"S": serde_json::to_string(&command(name)).unwrap()});
        item
    };
    let first = serde_json::json!({
        "Responses": {"lamplighter": [item("c-1")]},
        "UnprocessedKeys": {"lamplighter": {"Keys": [key("c-2")], "ConsistentRead": true}},
    });
    let second = serde_json::json!({
        "Responses": {"lamplighter": [item("c-2")]},
        "UnprocessedKeys": {},
    });
    let (url, mut asks) = answers(vec![first.to_string(), second.to_string()]).await;
    let (_, ports) = ports(url).await;
    let found = ports.store.load_commands(&["c-1", "c-2"].map(command_id)).await.unwrap();
    assert_eq!(ids_of(&found), ["c-1", "c-2"]);
    for keys in [vec![key("c-1"), key("c-2")], vec![key("c-2")]] {
        let ask = &asks.recv().await.unwrap()["RequestItems"]["lamplighter"];
        assert_eq!(ask["Keys"], serde_json::Value::from(keys));
        assert_eq!(ask["ConsistentRead"], serde_json::json!(true), "an outcome is not missed");
    }
}
