//! What machines can be made from: the fleet's templates, and how many of their places are taken.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lamplighter_events::{Action, TargetName};
use lamplighter_lifecycle::{Parameter, TargetSpec};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Door;
use crate::access::Caller;
use crate::problem::Problem;
use crate::settings::Right;

/// A parameter of a template's bootstrap.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ParameterShown {
    /// Its field in a create.
    name: String,
    /// Its value where a create names none.
    default: Option<String>,
    /// A create must name it.
    required: bool,
    /// What the whole value looks like: a regular expression.
    pattern: String,
}

/// A template.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TemplateShown {
    /// Its name.
    template: TargetName,
    /// The most machines at once.
    limit: u32,
    /// How many there are.
    taken: usize,
    /// What a create may name.
    parameters: Vec<ParameterShown>,
    /// A create names one of these, where there are any.
    one_of: Vec<String>,
    /// What can be done with it, of what this caller may.
    actions: Vec<Action>,
}

/// All of them.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TemplateList {
    templates: Vec<TemplateShown>,
}

/// `GET /v1/templates`
pub(crate) async fn templates(
    State(door): State<Arc<Door>>,
    caller: Caller,
) -> Result<Json<TemplateList>, Problem> {
    caller.need(Right::Read)?;
    let mut templates = Vec::new();
    for spec in door.fleet.templates.values().filter_map(TargetSpec::template) {
        if !caller.makes(&spec.template) {
            continue;
        }
        let taken = door.store.seats(&spec.template).await?.len();
        let shown = |(name, parameter): (&String, &Parameter)| ParameterShown {
            name: name.clone(),
            default: parameter.default.clone(),
            required: parameter.required,
            pattern: parameter.pattern.as_str().to_owned(),
        };
        templates.push(TemplateShown {
            template: spec.template.clone(),
            limit: spec.limit,
            taken,
            parameters: spec.parameters.iter().map(shown).collect(),
            one_of: spec.one_of.clone(),
            actions: vec![Action::Create]
                .into_iter()
                .filter(|_| caller.has(Right::Command))
                .collect(),
        });
    }
    Ok(Json(TemplateList { templates }))
}
