"""Stacks beside the first one that need nothing but values: the alarms, and VPC endpoints.

Theory. Each parameter of such a template has one source, which its name tells: a parameter or an output of the first
stack has the same name there, and the rest are options of their own, which the stack remembers. Alarms hold nothing,
so a stack of theirs that could not be made is made anew. They were part of the first stack once: its values of their
parameters are the first ones.

Not here: the door, which the fleet file has a word in (door.py), and in which order things are done (deploy.py).
"""

import fleet as fleets
from stack import ALARMS, ENDPOINTS, OptionError, Stack, check_value, option, template


def made_by_the_first(env):
    """The outputs of the first stack, by name; a plan may come before there is one, and their values are known."""
    names = fleets.names(env)
    return {
        "CommandQueue": names["queue", "commands"],
        "DeadLetterQueue": names["queue", "dead_letters"],
        "TableName": names["store", "table"],
        "LogGroup": f"/lamplighter/{env}/worker",
    }


def own_parameters(path, first):
    """The template's own parameters, by name."""
    told = {*first, *made_by_the_first(""), "Env"}
    return {name: spec for name, spec in template(path)["Parameters"].items() if name not in told}


class Beside:
    """One such stack of an environment."""

    path = None

    def __init__(self, client, args, say, first, uploads):
        self.env, self.say = args.env, say
        self.specs = template(self.path)["Parameters"]
        self.own = own_parameters(self.path, first)
        self.stack = Stack(client, args.env, say, self.path, uploads)
        self.given = {name: getattr(args, name) for name in self.own if getattr(args, name) is not None}
        for name, value in self.given.items():
            check_value(name, self.specs[name], value)
        # Set by `choose`: there is one now, and there shall be one.
        self.is_there = self.wanted = False
        self.values = {}

    def choose(self):
        self.is_there = self.stack.found() is not None
        self.wanted = True

    def resolve(self, first, before):
        """The values of its own parameters; `before` are those that the first stack had until now."""
        remembered = {**before, **self.stack.parameters()}
        self.values = {
            name: self.given.get(name, remembered.get(name, str(spec.get("Default", "")))) for name, spec in self.own.items()
        }

    def values_with(self, first, outputs):
        """The values of all parameters."""
        known = {**first, **made_by_the_first(self.env), **outputs, **self.values, "Env": self.env}
        return {name: known[name] for name in self.specs}


class Alarms(Beside):
    path = ALARMS

    def __init__(self, client, args, say, first, uploads):
        super().__init__(client, args, say, first, uploads)
        self.stack.is_made_anew = True


class Endpoints(Beside):
    path = ENDPOINTS

    def __init__(self, client, args, say, first, uploads):
        super().__init__(client, args, say, first, uploads)
        self.said = args.endpoints

    def choose(self):
        """As --endpoints says, else as it is."""
        self.is_there = self.stack.found() is not None
        self.wanted = self.is_there if self.said is None else self.said == "yes"
        if self.given and not self.wanted:
            options = ", ".join(option(name) for name in self.given)
            raise OptionError(f"{options} would have no effect without endpoints; expected --endpoints yes beside")

    def resolve(self, first, before):
        if not self.wanted:
            return
        super().resolve(first, before)
        for name in ("VpcId", "SubnetIds"):
            if not first[name]:
                raise OptionError(f"{name} is empty, and endpoints need a network; expected {option(name)}")
        if not self.values["EndpointCidr"]:
            raise OptionError(
                "EndpointCidr is empty; expected --endpoint-cidr with the network that may use the endpoints, such as the VPC's"
            )
        if not self.values["EndpointRouteTableIds"]:
            self.say(
                "warn   EndpointRouteTableIds is empty: no endpoint of DynamoDB and S3 is made, and the VPC must have them already"
            )
