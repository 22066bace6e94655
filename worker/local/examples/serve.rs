use lamplighter_local::*;
#[tokio::main]
async fn main() {
    let unit: UnitSeed = UnitSeed::default();
    let m = MachineSeed { id: "i-01f5d046c86e4f36e".into(), name: "position-keeper".into(), units: [("positionkeeper".to_string(), unit)].into(), state: MachineState::Stopped, tags: Default::default(), behaviour: Default::default() };
    let o = Options { port: 4987, machines: vec![m], secrets: vec![SecretSeed{id:"arn:aws:secretsmanager:us-east-1:000000000000:secret:pk-AbCdEf".into(), value:"{\"PK_INSTANCE\":\"i-01f5d046c86e4f36e\"}".into()}], data: std::env::args().nth(1).map(Into::into), log_groups: vec!["/app/a".into()], ..Options::default() };
    let e = Endpoint::start(o).await.unwrap();
    println!("{}", e.url());
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    e.shutdown().await;
}
