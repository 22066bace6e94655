//! What only an instance does: it is started and stopped.

use crate::effect::Effect;
use crate::pass::Pass;

pub(super) fn turn_on(pass: &Pass<'_>) -> Option<Effect> {
    Some(Effect::StartInstance { instance: pass.record.resource.instance()?.clone() })
}

pub(super) fn turn_off(pass: &Pass<'_>) -> Option<Effect> {
    Some(Effect::StopInstance { instance: pass.record.resource.instance()?.clone() })
}
