//! JSON Schemas of both directions, generated from the types and from the table of fields.
//!
//! Where a message of ours is parsed by hand (spellings, envelopes), the schema comes from the same table,
//! or from a struct here that shows the message's form; the fixtures are checked against parser and schema
//! alike, so the two cannot part. The schemas are a little narrower than the parser: they do not list
//! fields that are null, or an action in capitals.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::fields::{ECS_NAME_CHARS_MAX, Field, MINUTES_MAX, REASON_CHARS_MAX};
use crate::{
    Action, Command, CommandId, Holder, HumanDuration, InstanceId, LifecycleEvent, Outcome,
    TargetName,
};

/// Every schema by its file name, draft 2020-12; `events/schemas/` holds the same.
#[must_use]
pub fn schemas() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("command.schema.json", schema_of::<Command>()),
        ("tick.schema.json", schema_of::<wire::Tick>()),
        ("signal.schema.json", schema_of::<wire::Signal>()),
        ("wake-up.schema.json", schema_of::<wire::WakeUp>()),
        ("idle-shard.schema.json", schema_of::<wire::IdleShard>()),
        ("lifecycle-event.schema.json", schema_of::<LifecycleEvent>()),
        ("outcome.schema.json", schema_of::<Outcome>()),
    ])
}

fn schema_of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// A time as we take it.
struct Moment;

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "format": "date-time" },
                { "type": "number", "minimum": 0, "description": "epoch seconds" },
            ],
        })
    }
}

impl JsonSchema for Action {
    fn schema_name() -> Cow<'static, str> {
        "Action".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = Self::ALL.map(Self::as_str);
        json_schema!({ "type": "string", "enum": names })
    }
}

impl JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut properties = Map::new();
        for field in Field::ALL {
            let (description, schema) = field_schema(field, generator);
            for (index, spelling) in field.spellings().into_iter().enumerate() {
                let mut schema = schema.clone();
                let description = match index {
                    0 => description.to_owned(),
                    _ => format!("The same as `{}`.", field.names()[0]),
                };
                schema.insert("description".to_owned(), description.into());
                properties.insert(spelling, schema.to_value());
            }
        }
        let known: Vec<String> = Field::ALL.into_iter().flat_map(Field::spellings).collect();
        json_schema!({
            "type": "object",
            "description": "What a user asks for. The action may also come from the request's path, the \
                            message attribute `action`, or the tick's rule.",
            "properties": properties,
            "additionalProperties": {
                "description": "A parameter of the template's bootstrap; of the action `create` alone.",
                "anyOf": [{ "type": "string", "maxLength": 4096 }, { "type": ["number", "boolean", "null"] }],
            },
            "if": { "anyOf": may_have_parameters() },
            "else": { "propertyNames": { "enum": known } },
            "not": { "required": ["for", "until"] },
        })
    }
}

fn field_schema(field: Field, generator: &mut SchemaGenerator) -> (&'static str, Schema) {
    let minutes = || json_schema!({ "type": "integer", "minimum": 1, "maximum": MINUTES_MAX });
    let ecs_name = || {
        json_schema!({
            "type": "string",
            "pattern": "^[a-zA-Z0-9_:/-]+$",
            "maxLength": ECS_NAME_CHARS_MAX,
        })
    };
    match field {
        Field::Action => {
            ("What is to be done.", json_schema!({ "type": "string", "enum": action_spellings() }))
        }
        Field::Target => ("The target's name in the fleet.", TargetName::json_schema(generator)),
        Field::Instance => ("The target's EC2 instance.", InstanceId::json_schema(generator)),
        Field::Cluster => ("The target's ECS cluster; together with `service`.", ecs_name()),
        Field::Service => ("The target's ECS service; together with `cluster`.", ecs_name()),
        Field::Id => {
            ("The sender's key, by which a repetition is told.", CommandId::json_schema(generator))
        }
        Field::Holder => ("For whom.", Holder::json_schema(generator)),
        Field::For => {
            ("The hold lasts this long: \"2h\", \"1h30m\".", HumanDuration::json_schema(generator))
        }
        Field::Until => ("The hold lasts till then.", Moment::json_schema(generator)),
        Field::Reason => (
            "Why, in the sender's words.",
            json_schema!({
                "type": "string",
                "maxLength": REASON_CHARS_MAX,
                "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
            }),
        ),
        Field::Expires => {
            ("After this it is rejected, not done late.", Moment::json_schema(generator))
        }
        Field::IdleThreshold => ("Minutes after which idle counts as idle.", minutes()),
        Field::LookbackPeriod => ("Minutes of metrics that are read.", minutes()),
        Field::Template => (
            "What a create makes a machine from; the fleet's only template may be left out.",
            TargetName::json_schema(generator),
        ),
    }
}

/// What may have fields that are parameters: a create, and whatever has its action from elsewhere.
fn may_have_parameters() -> Vec<Value> {
    let spellings = Field::Action.spellings();
    let creates = spellings_of(&[Action::Create]);
    let elsewhere = json!({ "not": { "anyOf": spellings
        .iter()
        .map(|spelling| json!({ "required": [spelling] }))
        .collect::<Vec<_>>() } });
    let here = spellings.iter().map(|spelling| {
        let mut properties = Map::new();
        properties.insert(spelling.clone(), json!({ "enum": creates }));
        json!({ "required": [spelling], "properties": properties })
    });
    here.chain([elsewhere]).collect()
}

fn action_spellings() -> Vec<Value> {
    spellings_of(&Action::ALL)
}

fn spellings_of(actions: &[Action]) -> Vec<Value> {
    let mut all = Vec::new();
    for name in actions.iter().flat_map(|action| action.names()) {
        let mut words = name.split('-');
        let first = words.next().unwrap_or_default().to_owned();
        let camel = words.fold(first, |camel, word| {
            let (head, tail) = word.split_at(1);
            camel + &head.to_ascii_uppercase() + tail
        });
        for spelling in [(*name).to_owned(), name.replace('-', "_"), camel] {
            let spelling = json!(spelling);
            if !all.contains(&spelling) {
                all.push(spelling);
            }
        }
    }
    all
}

/// The forms of messages that are parsed by hand, for their schemas alone.
#[expect(dead_code, reason = "never made: only their form is read, by the schema")]
mod wire {
    use schemars::JsonSchema;

    use super::Moment;
    use crate::fields::MINUTES_MAX;
    use crate::time::Rfc3339;
    use crate::{Command, InstanceId, TargetName};

    /// A rule of EventBridge, or a schedule of EventBridge Scheduler, that came due.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    #[allow(clippy::large_enum_variant)] // Of a value that is never made.
    pub(super) enum Tick {
        Transformed(TransformedTick),
        Scheduled(ScheduledEvent),
    }

    /// As an input transformer or a schedule's input writes it.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    pub(super) struct TransformedTick {
        #[schemars(extend("const" = "tick"))]
        lamplighter: String,
        /// The rule's name or ARN.
        rule: String,
        /// When it was due.
        #[schemars(with = "Moment")]
        scheduled: Moment,
        /// What it asks for, where the fleet does not say.
        command: Option<Command>,
    }

    /// As AWS writes it by itself.
    #[derive(JsonSchema)]
    pub(super) struct ScheduledEvent {
        #[schemars(rename = "detail-type", extend("const" = "Scheduled Event"))]
        detail_type: String,
        #[schemars(extend("enum" = ["aws.events", "aws.scheduler"]))]
        source: String,
        #[schemars(with = "Rfc3339")]
        time: Rfc3339,
        /// The rule's ARN comes first.
        #[schemars(length(min = 1))]
        resources: Vec<String>,
    }

    /// A durable timer of the worker's own.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    pub(super) struct WakeUp {
        #[schemars(extend("const" = "wake-up"))]
        lamplighter: String,
        target: TargetName,
        /// The record's version that asked for it.
        rev: u64,
        #[schemars(with = "Moment")]
        at: Moment,
    }

    /// A part of a tick's work: some targets that are on.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    pub(super) struct IdleShard {
        #[schemars(extend("const" = "idle-shard"))]
        lamplighter: String,
        #[schemars(length(min = 1, max = 1000))]
        targets: Vec<TargetName>,
        /// The worker's own notes on each of them, in their order.
        notes: Vec<serde_json::Value>,
        #[schemars(range(min = 1, max = MINUTES_MAX))]
        idle_threshold_mins: Option<u32>,
        #[schemars(range(min = 1, max = MINUTES_MAX))]
        lookback_period_mins: Option<u32>,
    }

    /// What AWS reports on its own, as EventBridge delivers it.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    pub(super) enum Signal {
        Ec2(Ec2Event),
        Spot(SpotEvent),
        Ssm(SsmEvent),
        Ecs(EcsEvent),
    }

    /// An EC2 instance went to another state.
    #[derive(JsonSchema)]
    pub(super) struct Ec2Event {
        #[schemars(
            rename = "detail-type",
            extend("const" = "EC2 Instance State-change Notification")
        )]
        detail_type: String,
        #[schemars(extend("const" = "aws.ec2"))]
        source: String,
        #[schemars(with = "Rfc3339")]
        time: Rfc3339,
        detail: Ec2Detail,
    }

    #[derive(JsonSchema)]
    pub(super) struct Ec2Detail {
        #[schemars(rename = "instance-id")]
        instance_id: InstanceId,
        state: String,
    }

    /// EC2 takes a spot instance back in two minutes.
    #[derive(JsonSchema)]
    pub(super) struct SpotEvent {
        #[schemars(
            rename = "detail-type",
            extend("const" = "EC2 Spot Instance Interruption Warning")
        )]
        detail_type: String,
        #[schemars(extend("const" = "aws.ec2"))]
        source: String,
        #[schemars(with = "Rfc3339")]
        time: Rfc3339,
        detail: SpotDetail,
    }

    #[derive(JsonSchema)]
    pub(super) struct SpotDetail {
        #[schemars(rename = "instance-id")]
        instance_id: InstanceId,
        /// `terminate`, `stop` or `hibernate`.
        #[schemars(rename = "instance-action")]
        instance_action: String,
    }

    /// A command of SSM went to another status.
    #[derive(JsonSchema)]
    pub(super) struct SsmEvent {
        #[schemars(
            rename = "detail-type",
            extend("enum" = [
                "EC2 Command Status-change Notification",
                "EC2 Command Invocation Status-change Notification",
            ])
        )]
        detail_type: String,
        #[schemars(extend("const" = "aws.ssm"))]
        source: String,
        #[schemars(with = "Rfc3339")]
        time: Rfc3339,
        detail: SsmDetail,
    }

    #[derive(JsonSchema)]
    pub(super) struct SsmDetail {
        #[schemars(rename = "command-id")]
        command_id: String,
        /// In events about one node; `mi-…` where it is no EC2 instance.
        #[schemars(rename = "instance-id")]
        instance_id: Option<String>,
        status: String,
    }

    /// A task of ECS went to another status.
    #[derive(JsonSchema)]
    pub(super) struct EcsEvent {
        #[schemars(rename = "detail-type", extend("const" = "ECS Task State Change"))]
        detail_type: String,
        #[schemars(extend("const" = "aws.ecs"))]
        source: String,
        #[schemars(with = "Rfc3339")]
        time: Rfc3339,
        detail: EcsDetail,
    }

    #[derive(JsonSchema)]
    pub(super) struct EcsDetail {
        #[schemars(rename = "clusterArn")]
        cluster_arn: String,
        group: String,
        #[schemars(rename = "lastStatus")]
        last_status: String,
    }
}
