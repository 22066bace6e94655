//! The incidents, as data.

use super::{Happening, Incident, What};
use crate::world::Refusal;

const HOUR: i64 = 60;
const DAY: i64 = 24 * HOUR;

/// EC2's launches and starts.
const LAUNCHES: [&str; 2] = ["ec2:RunInstances", "ec2:StartInstances"];

const fn at(from: i64, until: i64, what: What) -> Happening {
    Happening { from, until, what }
}

/// All that are played.
pub const INCIDENTS: [Incident; 5] = [
    Incident {
        name: "us-east-1-2025-10-20",
        // DynamoDB's name was not resolved for 2 h 52 min. Then EC2's launches failed for hours, for want of capacity
        // and by request limits; then what was launched had no network.
        source: "https://aws.amazon.com/message/101925/",
        pace: 2,
        timeline: &[
            at(0, 172, What::Refuses("dynamodb:", 1000, Refusal::Unreachable)),
            at(172, 172 + 8 * HOUR, What::Refuses(LAUNCHES[0], 700, Refusal::NoCapacity)),
            at(172, 172 + 8 * HOUR, What::Refuses(LAUNCHES[0], 900, Refusal::RequestLimit)),
            at(172, 172 + 8 * HOUR, What::Refuses(LAUNCHES[1], 700, Refusal::NoCapacity)),
            at(172, 172 + 8 * HOUR, What::Refuses(LAUNCHES[1], 900, Refusal::RequestLimit)),
            at(172 + 8 * HOUR, 172 + 11 * HOUR, What::NoNetwork),
        ],
    },
    Incident {
        name: "zone-outage",
        source: "https://aws.amazon.com/message/56489/",
        pace: 2,
        timeline: &[at(0, 6 * HOUR, What::ZoneOut)],
    },
    Incident {
        name: "eventbridge-late",
        // Events were processed with delays of hours.
        source: "https://aws.amazon.com/message/11201/",
        pace: 2,
        timeline: &[at(0, 9 * HOUR, What::LateEvents(3 * HOUR))],
    },
    Incident {
        name: "sqs-duplicates",
        source: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html",
        pace: 2,
        timeline: &[at(0, 6 * HOUR, What::Duplicates)],
    },
    Incident {
        name: "describes-unavailable",
        // A runner that took each failed describe for the end of its command lost every eleventh.
        source: "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html",
        pace: 15,
        timeline: &[at(
            0,
            7 * DAY,
            What::Refuses("ec2:DescribeInstances", 400, Refusal::Unavailable),
        )],
    },
];
