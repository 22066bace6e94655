//! The table, created where it is missing, and checked where it is not.
//!
//! *Theory.* Two string keys and two sparse indexes; on demand, since a fleet's traffic is nothing for
//! hours and a burst after. TTL forgets commands. A table of another shape is refused, never changed.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TableDescription, TableStatus, TimeToLiveSpecification,
    TimeToLiveStatus,
};
use lamplighter_events::Cause;
use lamplighter_runtime::ports::{Applied, Disposition};

use crate::client::Aws;
use crate::disposition::{ErrorCode, call_error, own_error};
use crate::item::{DUE, UP};
use crate::setup::step::{Change, SetupError, SetupStep, failed};

/// Creating a table takes AWS ten seconds or so.
const WAIT_SECONDS: u64 = 120;
/// Between two looks at a table that is being created.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What a line of the index of what is up tells beside its keys.
const UP_PROJECTS: [&str; 3] = ["resource", "phase", "watch"];
const EXPIRES: &str = "expires_at";
/// Each index with its keys.
const INDEXES: &[(&str, &str, &str)] =
    &[(DUE, "due_shard", "wake_at"), (UP, "up_shard", "up_since")];

pub(crate) async fn run(aws: &Aws, table: &str, dry: bool) -> Result<Vec<SetupStep>, SetupError> {
    let what = format!("table {table}");
    let client = &aws.dynamodb;
    let step = match describe(client, &what, table).await? {
        Some(found) => {
            check_shape(table, &found)?;
            SetupStep::new(&what, Change::Exists)
        }
        None if dry => {
            let ttl = SetupStep::new(format!("TTL of {what}"), Change::Created);
            return Ok(vec![SetupStep::new(what, Change::Created), ttl]);
        }
        None => {
            create(client, &what, table).await?;
            SetupStep::new(&what, Change::Created)
        }
    };
    if !dry {
        wait_active(client, &what, table).await?;
    }
    Ok(vec![step, ttl(client, &what, table, dry).await?])
}

async fn describe(
    client: &Client,
    what: &str,
    table: &str,
) -> Result<Option<TableDescription>, SetupError> {
    match client.describe_table().table_name(table).send().await {
        Ok(answer) => Ok(answer.table),
        Err(error) if ErrorCode::parse(error.code(), 400) == ErrorCode::NoSuchResource => Ok(None),
        Err(error) => Err(failed(what, call_error("dynamodb:DescribeTable", &error))),
    }
}

async fn create(client: &Client, what: &str, table: &str) -> Result<(), SetupError> {
    let unbuilt = |error: BuildError| {
        let words = error.to_string();
        let source = own_error(
            "dynamodb:CreateTable",
            Cause::Invalid,
            Disposition::Fail,
            Applied::No,
            words,
        );
        failed(what, source)
    };
    let mut call = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(keys("pk", "sk").map_err(unbuilt)?))
        .attribute_definitions(attribute("pk", ScalarAttributeType::S).map_err(unbuilt)?)
        .attribute_definitions(attribute("sk", ScalarAttributeType::S).map_err(unbuilt)?);
    for (name, hash, range) in INDEXES {
        let projection = match *name {
            UP => Projection::builder()
                .projection_type(ProjectionType::Include)
                .set_non_key_attributes(Some(UP_PROJECTS.map(str::to_owned).to_vec())),
            _ => Projection::builder().projection_type(ProjectionType::KeysOnly),
        };
        let index = GlobalSecondaryIndex::builder()
            .index_name(*name)
            .set_key_schema(Some(keys(hash, range).map_err(unbuilt)?))
            .projection(projection.build())
            .build()
            .map_err(unbuilt)?;
        call = call
            .attribute_definitions(attribute(hash, ScalarAttributeType::S).map_err(unbuilt)?)
            .attribute_definitions(attribute(range, ScalarAttributeType::N).map_err(unbuilt)?)
            .global_secondary_indexes(index);
    }
    match call.send().await {
        Ok(_) => Ok(()),
        // Somebody else's setup was faster.
        Err(error) if error.code() == Some("ResourceInUseException") => Ok(()),
        Err(error) => Err(failed(what, call_error("dynamodb:CreateTable", &error))),
    }
}

fn keys(hash: &str, range: &str) -> Result<Vec<KeySchemaElement>, BuildError> {
    [(hash, KeyType::Hash), (range, KeyType::Range)]
        .into_iter()
        .map(|(name, kind)| KeySchemaElement::builder().attribute_name(name).key_type(kind).build())
        .collect()
}

fn attribute(name: &str, kind: ScalarAttributeType) -> Result<AttributeDefinition, BuildError> {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()
}

async fn wait_active(client: &Client, what: &str, table: &str) -> Result<(), SetupError> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(WAIT_SECONDS);
    loop {
        let found = describe(client, what, table).await?;
        if found.is_some_and(|found| found.table_status() == Some(&TableStatus::Active)) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(SetupError::NotActive {
                table: table.to_owned(),
                waited_seconds: WAIT_SECONDS,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn check_shape(table: &str, found: &TableDescription) -> Result<(), SetupError> {
    let refuse = |found: String, expected: String| {
        Err(SetupError::Shape { table: table.to_owned(), found, expected })
    };
    let key = words(found.key_schema());
    if key != "pk (HASH), sk (RANGE)" {
        return refuse(format!("the key {key}"), "pk (HASH), sk (RANGE)".to_owned());
    }
    for (name, hash, range) in INDEXES {
        let expected = format!("{hash} (HASH), {range} (RANGE)");
        let index =
            found.global_secondary_indexes().iter().find(|index| index.index_name() == Some(name));
        let Some(index) = index else {
            return refuse(format!("no index {name}"), format!("one with {expected}"));
        };
        let key = words(index.key_schema());
        if key != expected {
            return refuse(format!("the index {name} with {key}"), expected);
        }
        if let (UP, Some(projection)) = (*name, index.projection())
            && let Some(attribute) = UP_PROJECTS.iter().find(|name| !projects(projection, name))
        {
            let found = format!("the index {name} without the attribute {attribute}");
            return refuse(found, format!("one that projects {}", UP_PROJECTS.join(", ")));
        }
    }
    Ok(())
}

fn projects(projection: &Projection, attribute: &str) -> bool {
    match projection.projection_type() {
        Some(ProjectionType::KeysOnly) => false,
        Some(ProjectionType::Include) => {
            projection.non_key_attributes().iter().any(|name| name == attribute)
        }
        // All of them, or an endpoint that does not say.
        _ => true,
    }
}

fn words(schema: &[KeySchemaElement]) -> String {
    let mut keys: Vec<String> = schema
        .iter()
        .map(|key| format!("{} ({})", key.attribute_name(), key.key_type().as_str()))
        .collect();
    keys.sort_by_key(|key| !key.ends_with("(HASH)"));
    keys.join(", ")
}

async fn ttl(client: &Client, what: &str, table: &str, dry: bool) -> Result<SetupStep, SetupError> {
    let what = format!("TTL of {what}");
    let skipped = || {
        SetupStep::new(&what, Change::Skipped).noting("this endpoint forgets no commands by itself")
    };
    let found = match client.describe_time_to_live().table_name(table).send().await {
        Ok(answer) => answer.time_to_live_description,
        Err(error) if ErrorCode::parse(error.code(), 400) == ErrorCode::NoSuchCall => {
            return Ok(skipped());
        }
        Err(error) => return Err(failed(&what, call_error("dynamodb:DescribeTimeToLive", &error))),
    };
    let enabled = found.as_ref().is_some_and(|ttl| {
        use TimeToLiveStatus::{Enabled, Enabling};
        matches!(ttl.time_to_live_status(), Some(Enabled | Enabling))
    });
    if enabled {
        let step = SetupStep::new(&what, Change::Exists);
        return Ok(match found.as_ref().and_then(|ttl| ttl.attribute_name()) {
            Some(EXPIRES) | None => step,
            Some(other) => {
                step.noting(format!("it is on {other:?}, so commands are not forgotten"))
            }
        });
    }
    if !dry {
        let on = TimeToLiveSpecification::builder().attribute_name(EXPIRES).enabled(true).build();
        let on = on.map_err(|error| {
            let words = error.to_string();
            failed(
                &what,
                own_error(
                    "dynamodb:UpdateTimeToLive",
                    Cause::Invalid,
                    Disposition::Fail,
                    Applied::No,
                    words,
                ),
            )
        })?;
        let call = client.update_time_to_live().table_name(table).time_to_live_specification(on);
        match call.send().await {
            Ok(_) => {}
            Err(error) if ErrorCode::parse(error.code(), 400) == ErrorCode::NoSuchCall => {
                return Ok(skipped());
            }
            Err(error) => {
                return Err(failed(&what, call_error("dynamodb:UpdateTimeToLive", &error)));
            }
        }
    }
    Ok(SetupStep::new(what, Change::Created))
}
