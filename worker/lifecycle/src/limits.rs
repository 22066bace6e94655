//! Every bound and every fixed time of the rules, each with its reason.

/// The bytes of a target's item, as DynamoDB counts them. It refuses an item above 400 KB, and bills each write by the
/// item's size: in a transaction this is 128 write units, of the 1000 that one item takes in a second.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// How large a record may be with a new command that adds to it. The rest is for what must always be written.
pub const RECORD_BYTES_TAKEN_MAX: usize = 44 * 1024;
/// How large it may be with one more stop that waits for its end. The rest is for effects, their answers and events:
/// two launches with all their tags (4 KB each), and what is said about them.
pub const RECORD_BYTES_FOR_STOPS: usize = 52 * 1024;
/// The answer of an outcome in its event; all events of a target wait in its record while the bus is away.
pub const EVENT_ANSWER_BYTES_MAX: usize = 2 * 1024;
/// One line of history: AWS's refusals are paragraphs.
pub const HISTORY_CHARS_MAX: usize = 300;
/// The message of an outcome, a failure or an event.
pub const MESSAGE_CHARS_MAX: usize = 500;
/// What is said of a target's state. It may name the last refusal of each way to launch.
pub const WHY_CHARS_MAX: usize = 1_500;
/// The last refusal of one way to launch, with its way.
pub const TRIED_CHARS_MAX: usize = 160;
/// The parameters of one create together, as JSON, defaults included: they stand in the record and in each answer.
pub const PARAMETERS_BYTES_MAX: usize = 8 * 1024;
/// The format of stored items. Items without a number have 1, from before there were numbers. It is raised when an
/// earlier release would misread what this one writes, or must not write over it; fields that are only added do not
/// raise it. A release reads its own format and the one before.
pub const STORED_FORMAT: u32 = 2;
/// Holds of one target.
pub const HOLDS_MAX: usize = 64;
/// Commands of one target that have no outcome yet. With the record itself they must fit into one
/// DynamoDB transaction (100 items), since they can all end in the same commit.
pub const OPEN_COMMANDS_MAX: usize = 64;
/// History entries kept in a record.
pub const HISTORY_MAX: usize = 50;
/// Runs kept in a record, the oldest dropped first: two months of a target that is used once a day, in about as many
/// bytes (1.3 KB) as a dozen lines of its history.
pub const RUNS_MAX: usize = 60;
/// How many starts tell how long one usually takes: enough that one bad day is no median, few enough that a new
/// machine type shows.
pub const USUAL_RUNS_MAX: usize = 10;
/// Remembered last releases, one per holder; beyond it the oldest is forgotten.
pub const RELEASES_MAX: usize = 128;
/// Effects whose answers were lost and that may yet happen. Each takes its `ACT_WITHIN_SECONDS` before
/// the next can be decided, and is watched for 930 s: more than 58 there cannot be.
pub const UNANSWERED_MAX: usize = 64;
/// Events waiting to be sent. A pass that would exceed this gives up the oldest *state change*, then the oldest
/// *attention*, then the oldest outcome of a command that ends no cost, then the oldest outcome. What is given up of an
/// outcome is its event alone: the command's item keeps the outcome.
pub const OUTBOX_MAX: usize = 128;
/// While this many events wait to be sent, most new commands stay in the queue: a bus that is away for a day must not
/// push out events of commands that could as well wait. Stops, kills, destroys, pauses, resumes and keep-alives are
/// taken all the same, and commands that are open already still end.
pub const OUTBOX_BACKLOG_MAX: usize = 32;
/// How long a commit allows its effect to be issued. The SDK's attempts (5 s each) must fit, and a
/// crashed worker's target stands still for this long, so it is short.
pub const ACT_WITHIN_SECONDS: i64 = 15;
/// Inside this margin after an effect, or after the first sight of a contradiction, nothing is concluded. It is for
/// races between workers and calls; descriptions that lag have `SHOWS_WITHIN_SECONDS`.
pub const CONSISTENCY_MARGIN_SECONDS: i64 = 5;
/// A description may be older than a start or stop that AWS accepted so long before; after this it is believed. It is
/// what incidents of EC2's control plane show, and short beside the time that a start may take.
pub const SHOWS_WITHIN_SECONDS: i64 = 60;
/// What shows up within this time of a start or stop that AWS accepted is ours: twice EC2's own "up to five minutes".
pub const OWN_CHANGE_SECONDS: i64 = 10 * 60;
/// A machine that we started and that shows as stopped for so long has fallen back, where EC2 names no newer stop.
pub const FELL_BACK_SECONDS: i64 = SHOWS_WITHIN_SECONDS;
/// EC2's times are whole seconds, and workers' clocks are set by whole seconds.
pub const TIMES_DIFFER_SECONDS: i64 = 2;
/// A signed request can be accepted for 15 minutes after its signature (SigV4).
pub const SIGNATURE_LIFE_SECONDS: i64 = 15 * 60;
/// Above this difference between its clock and AWS's a worker refuses work.
pub const SKEW_MAX_SECONDS: i64 = 30;
/// A sight that is older than this is written anew when a look sees something else; sooner, polls
/// write nothing, so that a quick start keeps to its budget of six writes.
pub const NEWS_AFTER_SECONDS: i64 = 20;
/// Targets that are on are observed at least this often (DESIGN.md §3).
pub const ON_LOOK_SECONDS: i64 = 5 * 60;
/// Targets that are off are observed at least this often (DESIGN.md §3).
pub const OFF_LOOK_SECONDS: i64 = 15 * 60;
/// The script on the host waits at most this long for a unit that is `activating`.
pub const UNIT_ACTIVATING_SECONDS: i64 = 45;
/// What a check may take beyond the script's own waits, before it is asked anew.
pub const CHECK_GRACE_SECONDS: i64 = 30;
/// Command items live 45 days: 14 days of queue retention, 14 of dead letters, and room to replay.
pub const COMMAND_LIFE_SECONDS: i64 = 45 * 24 * 3600;
/// A probe that knows only the moment begins its count anew when its readings lie further apart than this
/// (or than the policy's `after`): twice the usual tick of five minutes, so that one lost tick does no harm.
pub const GAP_SECONDS_MAX: i64 = 10 * 60;
/// How often a count that runs is looked after without a tick: the usual tick.
pub const IDLE_LOOK_SECONDS: i64 = 5 * 60;
/// A reported activity this near to our own request is that request: HTTP's `Date` tells a clock to the
/// second, and a backend takes its time anywhere while it answers.
pub const OWN_PROBE_MILLIS: i64 = 2_000;
/// A report that lies within a request of ours younger than this does not tell that request from a use just now: it
/// is twice `OWN_PROBE_MILLIS`, and one second for what a quick backend takes.
pub const BLUR_SECONDS: i64 = 5;
/// Where a probe's answer showed only our own request, the next look asks that probe first, after this time.
pub const OWN_LOOK_SECONDS: i64 = 15;
/// For each HTTP probe of a policy: how old the last answer that showed more than our own request may be. Each look
/// gives at least one probe such an answer, and the looks follow each other by `OWN_LOOK_SECONDS` and a wake-up's
/// delay.
pub const CLEAR_SECONDS: i64 = 45;
/// Rounds of our own requests that are remembered: those of two looks (each asks twice) that two workers make at once.
pub const OWN_ROUNDS_MAX: usize = 8;
/// A round that took longer explains nothing: 16 probes, five seconds each, and as much again for a worker that is
/// slow. What lies within a round counts as ours, so a longer one would hide too much.
pub const OWN_ROUND_SECONDS_MAX: i64 = 160;
/// How late the values of a metric arrive where the fleet file does not say so. CloudWatch names no bound; two
/// minutes are usual, and one more for the publisher.
pub const METRIC_LAG_SECONDS: u64 = 3 * 60;
/// The host's word on its idleness serves the judgement that asked for it, and none much later.
pub const HOST_READING_SECONDS: i64 = 60;
/// Before 2001 nobody's backend was active: a missing field that was read as 0, or a duration.
pub const EPOCH_SECONDS_MIN: f64 = 978_307_200.0;
/// Epoch seconds beyond this are milliseconds (this is the year 5138).
pub const EPOCH_SECONDS_MAX: f64 = 1e11;
/// As many tasks that stopped at once are a service that does not come up: ECS would go on for ever.
pub const STOPPED_TASKS_MAX: usize = 2;
/// A machine that EC2 has just launched may not be known to its describes yet; AWS asks for patience in minutes
/// ("eventual consistency"), seconds are what is seen. Later it is gone.
pub const LAUNCH_VISIBLE_SECONDS: i64 = 2 * 60;
/// A launch without an answer counts as not made once the same token was refused this often...
pub const GIVEN_UP_REFUSALS: u32 = 2;
/// ...later than this after its `act_by`: a request that is still on its way then is a rare one, and its machine is
/// found by its token.
pub const GIVEN_UP_AFTER_SECONDS: i64 = 60;
/// Launches that were given up and that a record remembers. Each takes more than a minute, and none can come true
/// after 16.
pub const GIVEN_UP_MAX: usize = 16;
/// Refused ways to launch that a record remembers, each with its last refusal.
pub const TRIED_MAX: usize = 24;
/// What a bootstrap may take beyond its own time and its check's, before it is given up: SSM's own limit comes first.
pub const BOOTSTRAP_GRACE_SECONDS: i64 = 60;
