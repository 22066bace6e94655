"""SQS: delays, visibility, redrive, batches, receipts, limits."""

import itertools
import json
import time

import kit

fact = kit.facts_of("sqs")
API = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/"
GUIDE = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/"
NUMBERS = itertools.count(1)
INVALID = ("InvalidParameterValue", "InvalidAttributeValue")


def queue(it, **attributes):
    """A queue of this fact's own; its URL."""
    name = it.name(f"q{next(NUMBERS)}")
    attributes = {key: str(value) for key, value in attributes.items()}
    url = it.sqs.create_queue(QueueName=name, Attributes=attributes, tags={kit.TAG: it.run.id})["QueueUrl"]
    it.later(f"queue {name}", it.sqs.delete_queue, QueueUrl=url)
    return url


def common_queue(it):
    return it.shared("a queue", lambda: queue(it, VisibilityTimeout=30))


def arn_of(it, url):
    answer = it.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return answer["Attributes"]["QueueArn"]


def receive(it, url, seconds=20, **more):
    """The next message; a difference if there is none."""

    def probe():
        answer = it.sqs.receive_message(
            QueueUrl=url, WaitTimeSeconds=2, MessageSystemAttributeNames=["All"], MessageAttributeNames=["All"], **more
        )
        return answer.get("Messages")

    return it.eventually("a message is received", probe, seconds, every=0.1)[0]


@fact("A message's own delay may be 900 seconds and no more", API + "API_SendMessage.html")
def delay_at_most_900_seconds(it):
    url = common_queue(it)
    it.sqs.send_message(QueueUrl=url, MessageBody="late", DelaySeconds=900)
    it.refused(INVALID, it.sqs.send_message, QueueUrl=url, MessageBody="later", DelaySeconds=901)


@fact("A delayed message is not received before its delay is over, and then is", GUIDE + "sqs-message-timers.html")
def a_delay_is_kept(it):
    url = queue(it)
    began = time.monotonic()
    entry = {"Id": "1", "MessageBody": "late", "DelaySeconds": 3}
    it.same("failed", it.sqs.send_message_batch(QueueUrl=url, Entries=[entry]).get("Failed", []), [])
    it.same("received at once", it.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=0).get("Messages", []), [])
    receive(it, url)
    it.true("seconds until it was received", round(time.monotonic() - began, 1), time.monotonic() - began > 2.5)


@fact("A visibility timeout of more than 12 hours is refused", API + "API_ChangeMessageVisibility.html")
def visibility_at_most_12_hours(it):
    url = queue(it)
    it.sqs.send_message(QueueUrl=url, MessageBody="held")
    receipt = receive(it, url)["ReceiptHandle"]
    it.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=43_000)
    change = it.sqs.change_message_visibility
    it.refused(INVALID, change, QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=43_201)


@fact("SentTimestamp stays the same, and ApproximateReceiveCount grows, when a message is received again",
      API + "API_ReceiveMessage.html")  # fmt: skip
def sent_timestamp_survives_a_release(it):
    url = queue(it, VisibilityTimeout=30)
    it.sqs.send_message(QueueUrl=url, MessageBody="again")
    first = receive(it, url)
    it.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    second = receive(it, url)
    it.same("message id kept", second["MessageId"] == first["MessageId"], True)
    same = second["Attributes"]["SentTimestamp"] == first["Attributes"]["SentTimestamp"]
    it.same("SentTimestamp kept", same, True)
    counts = [message["Attributes"]["ApproximateReceiveCount"] for message in (first, second)]
    it.same("receive counts", counts, ["1", "2"])


@fact("A message's age counts in milliseconds since the epoch, by SQS's clock", API + "API_ReceiveMessage.html")
def sent_timestamp_is_in_milliseconds(it):
    url = queue(it)
    it.sqs.send_message(QueueUrl=url, MessageBody="when")
    sent = int(receive(it, url)["Attributes"]["SentTimestamp"])
    distance = abs(sent / 1000 - time.time())
    it.true("seconds between SentTimestamp and this machine's clock", round(distance), distance < 60)


def dead_letters(it):
    """A queue whose messages go to another after one receive; both URLs."""
    dead = queue(it)
    policy = json.dumps({"deadLetterTargetArn": arn_of(it, dead), "maxReceiveCount": 1})
    return queue(it, RedrivePolicy=policy, VisibilityTimeout=0), dead


@fact("A message that SQS moves to the dead-letter queue keeps its id, its SentTimestamp and its attributes",
      GUIDE + "sqs-dead-letter-queues.html")  # fmt: skip
def sent_timestamp_survives_the_dead_letters(it):
    live, dead = dead_letters(it)
    attribute = {"mark": {"DataType": "String", "StringValue": "kept"}}
    it.sqs.send_message(QueueUrl=live, MessageBody="poison", MessageAttributes=attribute)
    first = receive(it, live)
    # The move happens when it would be received once more.
    moved = it.eventually(
        "it is moved",
        lambda: it.sqs.receive_message(QueueUrl=live, WaitTimeSeconds=1).get("Messages", [])
        or it.sqs.receive_message(
            QueueUrl=dead, WaitTimeSeconds=1, MessageSystemAttributeNames=["All"], MessageAttributeNames=["All"]
        ).get("Messages"),
    )[0]
    it.same("message id kept", moved["MessageId"] == first["MessageId"], True)
    it.same("SentTimestamp kept", moved["Attributes"]["SentTimestamp"], first["Attributes"]["SentTimestamp"])
    it.same("attribute", moved.get("MessageAttributes", {}).get("mark", {}).get("StringValue"), "kept")


@fact("A redrive from the console (StartMessageMoveTask) gives a message a new SentTimestamp and keeps its attributes",
      GUIDE + "sqs-configure-dead-letter-queue-redrive.html")  # fmt: skip
def a_redrive_counts_as_a_new_sending(it):
    live, dead = dead_letters(it)
    attribute = {"mark": {"DataType": "String", "StringValue": "kept"}}
    it.sqs.send_message(QueueUrl=live, MessageBody="poison", MessageAttributes=attribute)
    first = receive(it, live)
    it.pause(1.1)
    it.sqs.receive_message(QueueUrl=live, WaitTimeSeconds=1)
    waiting = lambda: it.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["ApproximateNumberOfMessages"])
    it.eventually("it is moved", lambda: int(waiting()["Attributes"]["ApproximateNumberOfMessages"]))
    it.sqs.start_message_move_task(SourceArn=arn_of(it, dead))
    again = receive(it, live, seconds=60)
    it.same("attribute", again.get("MessageAttributes", {}).get("mark", {}).get("StringValue"), "kept")
    later = int(again["Attributes"]["SentTimestamp"]) - int(first["Attributes"]["SentTimestamp"])
    it.true("milliseconds by which SentTimestamp is later", later, later > 500)


@fact("A message can be sent to a dead-letter queue directly", GUIDE + "sqs-dead-letter-queues.html")
def dead_letters_can_be_sent(it):
    _, dead = dead_letters(it)
    it.sqs.send_message(QueueUrl=dead, MessageBody="parked")
    it.same("body", receive(it, dead)["Body"], "parked")


@fact("A batch may fail in part: each entry is answered for itself", API + "API_SendMessageBatch.html")
def a_batch_fails_in_part(it):
    entries = [{"Id": "good", "MessageBody": "1"}, {"Id": "bad", "MessageBody": "2", "DelaySeconds": 901}]
    answer = it.sqs.send_message_batch(QueueUrl=common_queue(it), Entries=entries)
    it.same("sent", [entry["Id"] for entry in answer.get("Successful", [])], ["good"])
    failed = answer.get("Failed", [])
    it.same("failed", [(entry["Id"], entry["SenderFault"]) for entry in failed], [("bad", True)])
    it.same("its code", failed[0]["Code"], *INVALID)


@fact("A delete of a batch that has a receipt which is none fails for that entry alone",
      API + "API_DeleteMessageBatch.html")  # fmt: skip
def a_delete_batch_fails_in_part(it):
    url = queue(it)
    it.sqs.send_message(QueueUrl=url, MessageBody="gone soon")
    receipt = receive(it, url)["ReceiptHandle"]
    entries = [{"Id": "good", "ReceiptHandle": receipt}, {"Id": "bad", "ReceiptHandle": "no-receipt"}]
    answer = it.sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    it.same("deleted", [entry["Id"] for entry in answer.get("Successful", [])], ["good"])
    it.same("failed", [(entry["Id"], entry["Code"]) for entry in answer.get("Failed", [])],
            [("bad", "ReceiptHandleIsInvalid")])  # fmt: skip


@fact("A batch has at most ten entries", API + "API_SendMessageBatch.html")
def a_batch_has_ten_entries(it):
    entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(11)]
    it.refused("TooManyEntriesInBatchRequest", it.sqs.send_message_batch, QueueUrl=common_queue(it), Entries=entries)
    it.sqs.send_message_batch(QueueUrl=common_queue(it), Entries=entries[:10])


@fact("The ids of a batch's entries must be distinct", API + "API_SendMessageBatch.html")
def ids_of_a_batch_are_distinct(it):
    entries = [{"Id": "same", "MessageBody": "1"}, {"Id": "same", "MessageBody": "2"}]
    it.refused("BatchEntryIdsNotDistinct", it.sqs.send_message_batch, QueueUrl=common_queue(it), Entries=entries)


@fact("A message has at most ten attributes", GUIDE + "quotas-messages.html")
def a_message_has_ten_attributes(it):
    attributes = {f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(10)}
    url = common_queue(it)
    it.sqs.send_message(QueueUrl=url, MessageBody="ten", MessageAttributes=attributes)
    attributes["a10"] = {"DataType": "String", "StringValue": "x"}
    send = it.sqs.send_message
    it.refused(INVALID, send, QueueUrl=url, MessageBody="eleven", MessageAttributes=attributes)


@fact("An attribute without a value is refused", API + "API_MessageAttributeValue.html")
def an_attribute_is_not_empty(it):
    attributes = {"empty": {"DataType": "String", "StringValue": ""}}
    send = it.sqs.send_message
    it.refused(INVALID, send, QueueUrl=common_queue(it), MessageBody="x", MessageAttributes=attributes)


@fact("A message that was deleted may be deleted again", API + "API_DeleteMessage.html")
def a_delete_may_be_repeated(it):
    url = queue(it)
    it.sqs.send_message(QueueUrl=url, MessageBody="once")
    receipt = receive(it, url)["ReceiptHandle"]
    for _ in range(2):
        it.sqs.delete_message(QueueUrl=url, ReceiptHandle=receipt)
    it.note("both deletes were accepted")


@fact("The visibility of a deleted message cannot be changed", API + "API_ChangeMessageVisibility.html")
def a_deleted_message_cannot_be_delayed(it):
    url = queue(it)
    it.sqs.send_message(QueueUrl=url, MessageBody="once")
    receipt = receive(it, url)["ReceiptHandle"]
    it.sqs.delete_message(QueueUrl=url, ReceiptHandle=receipt)
    codes = ("InvalidParameterValue", "MessageNotInflight", "ReceiptHandleIsInvalid")
    change = it.sqs.change_message_visibility
    it.refused(codes, change, QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=10)


@fact("A receipt that is older than another receive of the message does not hide it from its new owner",
      API + "API_DeleteMessage.html")  # fmt: skip
def a_stale_receipt_is_no_error(it):
    url = queue(it, VisibilityTimeout=0)
    it.sqs.send_message(QueueUrl=url, MessageBody="twice")
    stale, fresh = receive(it, url)["ReceiptHandle"], receive(it, url)["ReceiptHandle"]
    it.true("the receipts differ", stale != fresh, stale != fresh)
    it.sqs.delete_message(QueueUrl=url, ReceiptHandle=stale)
    it.note("a delete with the stale receipt is accepted; whether it deletes is not promised")


@fact("A body with a control character is refused", API + "API_SendMessage.html")
def a_body_has_no_control_characters(it):
    it.refused("InvalidMessageContents", it.sqs.send_message, QueueUrl=common_queue(it), MessageBody="bell \x07")


@fact("A message above the queue's MaximumMessageSize is refused, and its attributes count",
      API + "API_SetQueueAttributes.html")  # fmt: skip
def the_maximum_size_counts_attributes(it):
    url = queue(it, MaximumMessageSize=1024)
    it.sqs.send_message(QueueUrl=url, MessageBody="x" * 1024)
    it.refused(INVALID, it.sqs.send_message, QueueUrl=url, MessageBody="x" * 1025)
    attribute = {"a": {"DataType": "String", "StringValue": "y" * 100}}
    it.refused(INVALID, it.sqs.send_message, QueueUrl=url, MessageBody="x" * 1000, MessageAttributes=attribute)


@fact("A new queue takes messages of 1 MiB", GUIDE + "quotas-messages.html")
def a_new_queue_takes_1_mib(it):
    url = queue(it)
    answer = it.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["MaximumMessageSize"])
    it.same("MaximumMessageSize", answer["Attributes"]["MaximumMessageSize"], "1048576")
    it.sqs.send_message(QueueUrl=url, MessageBody="x" * 600_000)


@fact("The entries of one batch have at most 1 MiB together", API + "API_SendMessageBatch.html")
def a_batch_has_1_mib(it):
    entries = [{"Id": str(n), "MessageBody": "x" * 400_000} for n in range(3)]
    it.refused("BatchRequestTooLong", it.sqs.send_message_batch, QueueUrl=common_queue(it), Entries=entries)


@fact("A queue that does not exist is QueueDoesNotExist", API + "API_GetQueueUrl.html")
def a_missing_queue_has_its_code(it):
    it.refused("QueueDoesNotExist", it.sqs.get_queue_url, QueueName=it.name("nowhere"))


@fact("CreateQueue with the same attributes gives the existing URL, with others it is refused",
      API + "API_CreateQueue.html")  # fmt: skip
def create_queue_may_be_repeated(it):
    url = queue(it, VisibilityTimeout=41)
    name = url.rsplit("/", 1)[1]
    again = it.sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "41"})["QueueUrl"]
    it.same("the same URL", again == url, True)
    it.refused("QueueNameExists", it.sqs.create_queue, QueueName=name, Attributes={"VisibilityTimeout": "42"})


@fact("A receive gives at most ten messages and waits at most 20 seconds", API + "API_ReceiveMessage.html")
def a_receive_is_bounded(it):
    url = common_queue(it)
    it.refused(INVALID, it.sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=11)
    it.refused(INVALID, it.sqs.receive_message, QueueUrl=url, WaitTimeSeconds=21)


@fact("A long poll that finds nothing waits for its time and answers without messages",
      GUIDE + "sqs-short-and-long-polling.html")  # fmt: skip
def a_long_poll_waits(it):
    url = queue(it)
    began = time.monotonic()
    answer = it.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=2)
    waited = time.monotonic() - began
    it.same("messages", answer.get("Messages", []), [])
    it.true("seconds", round(waited, 1), waited > 1.5)


@fact("The visibilities of a batch are answered each for itself", API + "API_ChangeMessageVisibilityBatch.html")
def a_visibility_batch_fails_in_part(it):
    url = queue(it)
    it.sqs.send_message(QueueUrl=url, MessageBody="held")
    receipt = receive(it, url)["ReceiptHandle"]
    entries = [
        {"Id": "good", "ReceiptHandle": receipt, "VisibilityTimeout": 60},
        {"Id": "bad", "ReceiptHandle": "no-receipt", "VisibilityTimeout": 60},
    ]
    answer = it.sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)
    it.same("changed", [entry["Id"] for entry in answer.get("Successful", [])], ["good"])
    it.same("failed", [entry["Id"] for entry in answer.get("Failed", [])], ["bad"])


@fact("Every answer has the time of AWS's clock in its Date header",
      "https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html")  # fmt: skip
def answers_bear_a_date(it):
    from email.utils import parsedate_to_datetime

    answer = it.sqs.get_queue_attributes(QueueUrl=common_queue(it), AttributeNames=["QueueArn"])
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    it.true("a Date header", date, bool(date))
    distance = abs((parsedate_to_datetime(date) - kit.now()).total_seconds())
    it.true("seconds between it and this machine's clock", round(distance), distance < 60)
