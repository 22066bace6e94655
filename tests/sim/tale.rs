//! How a run is told: one line for each call and each deed, in the order of time.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::call::Call;

/// One call: when, by which worker, what was done to it, what it was about.
pub fn line(call: &Call) -> String {
    let fault = call.fault.map(|fault| format!("  !! {fault:?}")).unwrap_or_default();
    let (at, worker, operation, what) = (call.at, call.worker, call.operation, &call.what);
    format!("{at:.3}  {worker} {operation} {what}{fault}").trim_end().to_owned()
}

/// A story: what people did and what was called.
pub fn tell(deeds: &[(Timestamp, String)], calls: &[Call]) -> String {
    let mut lines: Vec<(Timestamp, String)> = deeds
        .iter()
        .map(|(at, deed)| (*at, format!("{at:.3} {deed}")))
        .chain(calls.iter().map(|call| (call.at, line(call))))
        .collect();
    lines.sort_by_key(|(at, _)| *at);
    lines.iter().fold(String::new(), |mut tale, (_, line)| {
        let _ = writeln!(tale, "{line}");
        tale
    })
}
