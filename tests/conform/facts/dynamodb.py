"""DynamoDB: conditions, transactions, tokens, limits, sparse indexes, time to live."""

import secrets

import kit

fact = kit.facts_of("dynamodb")
API = "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/"
GUIDE = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/"
INDEX = "due"


def make_table(it):
    name = it.name("table")
    it.dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "due_shard", "AttributeType": "S"},
            {"AttributeName": "wake_at", "AttributeType": "N"},
        ],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": INDEX,
                "KeySchema": [
                    {"AttributeName": "due_shard", "KeyType": "HASH"},
                    {"AttributeName": "wake_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        Tags=[{"Key": kit.TAG, "Value": it.run.id}],
    )
    it.later(f"table {name}", it.dynamodb.delete_table, TableName=name)
    active = lambda: it.dynamodb.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE"
    it.eventually("the table is ACTIVE", active, seconds=120)
    return name


def table(it):
    return it.shared("a table", lambda: make_table(it))


def key():
    return f"item-{secrets.token_hex(6)}"


def item(pk, **more):
    return {"pk": {"S": pk}, **more}


def put(it, pk, **more):
    it.dynamodb.put_item(TableName=table(it), Item=item(pk, **more))
    return pk


def putting(it, pk, condition=None, **more):
    """A part of a transaction."""
    part = {"TableName": table(it), "Item": item(pk, **more)}
    if condition:
        part |= {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    return {"Put": part}


def read(it, pk):
    return it.dynamodb.get_item(TableName=table(it), Key=item(pk), ConsistentRead=True).get("Item")


NEW = "attribute_not_exists(pk)"


@fact("A put with a condition that does not hold changes nothing and gives the old item where ALL_OLD is asked for",
      API + "API_PutItem.html")  # fmt: skip
def a_failed_condition_gives_the_old_item(it):
    pk = put(it, key(), rev={"N": "7"})
    error = it.refused(
        "ConditionalCheckFailedException", it.dynamodb.put_item, TableName=table(it), Item=item(pk, rev={"N": "8"}),
        ConditionExpression=NEW, ReturnValuesOnConditionCheckFailure="ALL_OLD",
    )  # fmt: skip
    it.same("the old item", error.response.get("Item"), item(pk, rev={"N": "7"}))
    it.same("what is stored", read(it, pk), item(pk, rev={"N": "7"}))


@fact("A condition on an attribute of an item that does not exist does not hold",
      GUIDE + "Expressions.ConditionExpressions.html")  # fmt: skip
def a_condition_on_nothing_fails(it):
    pk = key()
    it.refused(
        "ConditionalCheckFailedException", it.dynamodb.put_item, TableName=table(it), Item=item(pk),
        ConditionExpression="rev = :expected", ExpressionAttributeValues={":expected": {"N": "1"}},
    )  # fmt: skip


@fact("A cancelled transaction has one reason for each item, in the order of the request, and `None` for those that "
      "did not fail", API + "API_TransactWriteItems.html")  # fmt: skip
def reasons_come_in_order(it):
    taken, free = put(it, key(), rev={"N": "1"}), key()
    parts = [putting(it, free), putting(it, taken, NEW), putting(it, key(), NEW)]
    error = it.refused("TransactionCanceledException", it.dynamodb.transact_write_items, TransactItems=parts)
    reasons = error.response.get("CancellationReasons", [])
    it.same("codes", [it.get("Code") for it in reasons], ["None", "ConditionalCheckFailed", "None"])
    it.same("the old item", reasons[1].get("Item"), item(taken, rev={"N": "1"}))
    it.same("the other part was not written", read(it, free), None)


@fact("A transaction that is sent again with its token succeeds and is not done again",
      API + "API_TransactWriteItems.html")  # fmt: skip
def a_token_makes_a_transaction_idempotent(it):
    pk, token = key(), secrets.token_hex(16)
    parts = [putting(it, pk, NEW)]
    for _ in range(2):
        it.dynamodb.transact_write_items(TransactItems=parts, ClientRequestToken=token)
    it.note("the repetition was accepted although its condition does not hold any more")


@fact("A token that comes with another transaction is IdempotentParameterMismatchException",
      API + "API_TransactWriteItems.html")  # fmt: skip
def a_token_belongs_to_its_transaction(it):
    token = secrets.token_hex(16)
    write = it.dynamodb.transact_write_items
    write(TransactItems=[putting(it, key())], ClientRequestToken=token)
    other = [putting(it, key())]
    it.refused("IdempotentParameterMismatchException", write, TransactItems=other, ClientRequestToken=token)


@fact("A token has at most 36 characters", API + "API_TransactWriteItems.html")
def a_token_has_36_characters(it):
    write = it.dynamodb.transact_write_items
    it.refused("ValidationException", write, TransactItems=[putting(it, key())], ClientRequestToken="t" * 37)
    write(TransactItems=[putting(it, key())], ClientRequestToken=secrets.token_hex(18))


@fact("A transaction may name an item once", API + "API_TransactWriteItems.html")
def a_transaction_names_an_item_once(it):
    pk = key()
    parts = [putting(it, pk), putting(it, pk)]
    it.refused("ValidationException", it.dynamodb.transact_write_items, TransactItems=parts)


@fact("A transaction has at most 100 items", API + "API_TransactWriteItems.html")
def a_transaction_has_100_items(it):
    parts = [putting(it, key()) for _ in range(101)]
    it.refused("ValidationException", it.dynamodb.transact_write_items, TransactItems=parts)


@fact("A ConditionCheck cancels the transaction's writes", API + "API_ConditionCheck.html")
def a_condition_check_guards_the_others(it):
    guarded, written = put(it, key(), rev={"N": "2"}), key()
    check = {
        "TableName": table(it), "Key": item(guarded), "ConditionExpression": "rev = :expected",
        "ExpressionAttributeValues": {":expected": {"N": "1"}},
    }  # fmt: skip
    parts = [{"ConditionCheck": check}, putting(it, written)]
    error = it.refused("TransactionCanceledException", it.dynamodb.transact_write_items, TransactItems=parts)
    codes = [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]
    it.same("codes", codes, ["ConditionalCheckFailed", "None"])
    it.same("the write was not done", read(it, written), None)


@fact("An item has at most 400 KB, names of attributes included", GUIDE + "ServiceQuotas.html")
def an_item_has_400_kb(it):
    pk = key()
    room = 400 * 1024 - len("pk") - len(pk) - len("data")
    put(it, pk, data={"S": "x" * room})
    more = item(pk, data={"S": "x" * (room + 1)})
    error = it.refused("ValidationException", it.dynamodb.put_item, TableName=table(it), Item=more)
    it.true("its words", kit.brief(error), "size" in kit.brief(error).lower())


@fact("In a transaction an item above 400 KB is refused, too", API + "API_TransactWriteItems.html")
def a_transaction_item_has_400_kb(it):
    parts = [putting(it, key(), data={"S": "x" * (400 * 1024)})]
    codes = ("ValidationException", "TransactionCanceledException")
    it.refused(codes, it.dynamodb.transact_write_items, TransactItems=parts)


def due(it, shard):
    answer = it.dynamodb.query(
        TableName=table(it), IndexName=INDEX, KeyConditionExpression="due_shard = :shard AND wake_at <= :now",
        ExpressionAttributeValues={":shard": {"S": shard}, ":now": {"N": "100"}},
    )  # fmt: skip
    return [it["pk"]["S"] for it in answer["Items"]]


@fact("An index holds the items that have its keys and no others", GUIDE + "bp-indexes-general-sparse-indexes.html")
def an_index_is_sparse(it):
    shard = key()
    with_keys = put(it, key(), due_shard={"S": shard}, wake_at={"N": "50"})
    put(it, key(), due_shard={"S": shard})
    put(it, key(), due_shard={"S": shard}, wake_at={"N": "101"})
    it.eventually("the item appears", lambda: due(it, shard) == [with_keys])
    put(it, with_keys)
    it.eventually("without the keys it goes", lambda: due(it, shard) == [])


@fact("An index follows its table after a while that is not bounded; here it is measured", GUIDE + "GSI.html")
def an_index_lags(it):
    shard = key()
    pk = put(it, key(), due_shard={"S": shard}, wake_at={"N": "1"})
    it.eventually("the item appears", lambda: due(it, shard) == [pk], every=0.02)


@fact("An index cannot be read consistently", GUIDE + "HowItWorks.ReadConsistency.html")
def an_index_is_not_consistent(it):
    it.refused(
        "ValidationException", it.dynamodb.query, TableName=table(it), IndexName=INDEX, ConsistentRead=True,
        KeyConditionExpression="due_shard = :shard", ExpressionAttributeValues={":shard": {"S": "0"}},
    )  # fmt: skip


@fact("BatchGetItem reads consistently where it is asked to", API + "API_BatchGetItem.html")
def a_batch_get_is_consistent(it):
    keys = [put(it, key()) for _ in range(3)]
    wanted = {table(it): {"Keys": [item(pk) for pk in keys], "ConsistentRead": True}}
    answer = it.dynamodb.batch_get_item(RequestItems=wanted)
    found = sorted(it["pk"]["S"] for it in answer["Responses"][table(it)])
    it.same("all three", found, sorted(keys))
    it.same("UnprocessedKeys", answer.get("UnprocessedKeys"), {})


@fact("BatchGetItem takes at most 100 keys, and no key twice", API + "API_BatchGetItem.html")
def a_batch_get_has_100_keys(it):
    keys = [item(key()) for _ in range(101)]
    get = it.dynamodb.batch_get_item
    it.refused("ValidationException", get, RequestItems={table(it): {"Keys": keys}})
    it.refused("ValidationException", get, RequestItems={table(it): {"Keys": [keys[0], keys[0]]}})


@fact("A set that loses its last element goes as an attribute", GUIDE + "Expressions.UpdateExpressions.html")
def a_set_is_never_empty(it):
    pk = put(it, key(), seats={"SS": ["one"]})
    it.dynamodb.update_item(
        TableName=table(it), Key=item(pk), UpdateExpression="DELETE seats :one",
        ExpressionAttributeValues={":one": {"SS": ["one"]}},
    )  # fmt: skip
    it.same("the item", read(it, pk), item(pk))


@fact("`size` of a set counts its elements, so that a limit can be a condition",
      GUIDE + "Expressions.OperatorsAndFunctions.html")  # fmt: skip
def the_size_of_a_set_can_be_a_condition(it):
    pk = put(it, key(), seats={"SS": ["one", "two"]})

    def join(limit):
        it.dynamodb.update_item(
            TableName=table(it), Key=item(pk), UpdateExpression="ADD seats :three",
            ConditionExpression="attribute_not_exists(seats) OR size(seats) < :limit",
            ExpressionAttributeValues={":three": {"SS": ["three"]}, ":limit": {"N": str(limit)}},
        )  # fmt: skip

    it.refused("ConditionalCheckFailedException", join, limit=2)
    join(limit=3)
    it.same("seats", sorted(read(it, pk)["seats"]["SS"]), ["one", "three", "two"])


@fact("Time to live can be set once, is described, and setting it again is refused", API + "API_UpdateTimeToLive.html")
def time_to_live_is_set_once(it):
    setting = {"Enabled": True, "AttributeName": "expires_at"}
    it.dynamodb.update_time_to_live(TableName=table(it), TimeToLiveSpecification=setting)
    answer = it.dynamodb.describe_time_to_live(TableName=table(it))["TimeToLiveDescription"]
    it.same("status", answer["TimeToLiveStatus"], "ENABLED", "ENABLING")
    it.same("attribute", answer["AttributeName"], "expires_at")
    update = it.dynamodb.update_time_to_live
    it.refused("ValidationException", update, TableName=table(it), TimeToLiveSpecification=setting)


@fact("An item whose time to live is over is still read until it is deleted, which may take days", GUIDE + "TTL.html")
def an_expired_item_is_still_read(it):
    pk = put(it, key(), expires_at={"N": "1"})
    it.true("it may still be read", read(it, pk), True)


@fact("A table that does not exist is ResourceNotFoundException, one that exists cannot be created",
      API + "API_CreateTable.html")  # fmt: skip
def tables_have_their_errors(it):
    it.refused("ResourceNotFoundException", it.dynamodb.describe_table, TableName=it.name("nowhere"))
    it.refused(
        "ResourceInUseException", it.dynamodb.create_table, TableName=table(it), BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )  # fmt: skip


@fact("A scan is filtered after it was read: a filter that keeps nothing is an empty answer",
      GUIDE + "Scan.html")  # fmt: skip
def a_scan_is_filtered(it):
    pk = put(it, f"made#{key()}", kind={"S": "ec2-template"})
    answer = it.dynamodb.scan(
        TableName=table(it), ConsistentRead=True, FilterExpression="begins_with(pk, :made) AND kind = :kind",
        ExpressionAttributeValues={":made": {"S": "made#"}, ":kind": {"S": "ec2-template"}},
    )  # fmt: skip
    it.same("found", [it["pk"]["S"] for it in answer["Items"]], [pk])
    it.true("more was scanned", answer["ScannedCount"], answer["ScannedCount"] >= answer["Count"])
