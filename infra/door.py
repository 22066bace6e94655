"""The HTTP door of an environment: a second stack beside the first one, with infra/door.yaml.

Theory. Each parameter of its template has one source, which its name tells: a parameter or an output of the
first stack has the same name there, TokensSecret and LinksSecret are the fleet's, and the rest are the door's own
options, which its stack remembers. What would open machines to strangers is refused before AWS is asked: a door without
[http] in the fleet, tokens in plain HTTP over the internet, and no tokens at all where the internet reaches it
(unless that was said, of this very fleet).

Not here: the rights (door-policy.json), and in which order things are done (deploy.py).
"""

import ipaddress
import socket
import ssl
import time
from http.client import HTTPConnection, HTTPException

import fleet as fleets
from stack import DOOR, OptionError, Stack, check_value, option, template

# What -e and the fleet say is no option.
WRITTEN = {"Env", "TokensSecret", "LinksSecret"}
# The names of what the first stack tells of itself, and where the fleet file has them (fleets.names).
OUTPUTS = {
    "CommandQueue": ("queue", "commands"),
    "DeadLetterQueue": ("queue", "dead_letters"),
    "TableName": ("store", "table"),
}
# An answer that takes longer is none.
ANSWER_SECONDS = 5
LOOK_EVERY_SECONDS = 2
# Whoever deploys need not be in the network that may reach the door: after so long without a connection it is
# said, and is no failure. A new balancer's name takes a minute to be known.
REACH_SECONDS = 60
# What only a balancer has.
BALANCERS = ["DoorScheme", "DoorSubnetIds", "DoorDrainSeconds", "CertificateArn", "DoorHostname", "DoorLogsBucket"]


class DoorError(Exception):
    """A door that does not answer."""


def own_parameters(first):
    """The door's own parameters: those that neither the first stack, nor its outputs, nor the fleet tell."""
    specs = template(DOOR)["Parameters"]
    told = {*first, *OUTPUTS, *WRITTEN}
    return {name: spec for name, spec in specs.items() if name not in told}


def is_balanced(values):
    """Whether a load balancer stands before a door with these values."""
    return values.get("DoorReach") == "load-balancer"


def is_public(values):
    """Whether the internet reaches a door with these values."""
    return is_balanced(values) and values.get("DoorScheme") == "internet-facing"


class Door:
    """The door that one environment has, is to have, or is to have no more."""

    def __init__(self, client, args, say, first, uploads):
        self.say = say
        self.env = args.env
        self.specs = template(DOOR)["Parameters"]
        self.own = own_parameters(first)
        self.stack = Stack(client, args.env, say, DOOR, uploads)
        self.without_tokens = args.door_without_tokens
        self.given = {name: getattr(args, name) for name in self.own if getattr(args, name) is not None}
        for name, value in self.given.items():
            check_value(name, self.specs[name], value)
        self.said = args.door
        # Set by `choose`: there is one now, and there shall be one.
        self.is_there = self.wanted = False
        # Set by `resolve`: with this very fleet the internet reaches it already.
        self.was_public = False
        self.values = {}

    def choose(self):
        """Whether there shall be a door: as --door says, else as it is."""
        self.is_there = self.stack.found() is not None
        self.wanted = self.is_there if self.said is None else self.said == "yes"
        if self.given and not self.wanted:
            options = ", ".join(option(name) for name in self.given)
            raise OptionError(f"{options} would have no effect without a door; expected --door yes beside")

    def resolve(self, first, fleet, where):
        """The door's own values, which are refused where they and the fleet and the first stack's do not fit."""
        http = fleets.http_of(fleet)
        if http is None:
            raise fleets.FleetError(
                f"{where} has no [http], and without it the door would let nobody in; expected [http] in a file that "
                "--fleet names, with auth and tokens, or --door no"
            )
        before = self.stack.parameters()
        self.values = {
            name: self.given.get(name, before.get(name, str(spec.get("Default", "")))) for name, spec in self.own.items()
        }
        self.was_public = is_public(before) and before["FleetParameter"] == first["FleetParameter"]
        secrets = {"TokensSecret": fleets.tokens_secret(fleet), "LinksSecret": fleets.links_secret(fleet)}
        self.values |= {"Env": self.env, **secrets}
        for name in WRITTEN:
            check_value(name, self.specs[name], self.values[name])
        self._check_network(first)
        self._check_reach(http, where)

    def values_with(self, first, outputs):
        """The values of all parameters. A plan may come before there is a first stack; what it makes has known names."""
        known = fleets.names(self.env)
        made = {name: outputs.get(name, known[where]) for name, where in OUTPUTS.items()}
        shared = {name: first[name] for name in self.specs if name in first}
        return {**shared, **made, **self.values}

    def _check_network(self, first):
        for name in ("VpcId", "SubnetIds"):
            if not first[name]:
                raise OptionError(f"{name} is empty, and the door needs a network; expected {option(name)}")
        subnets = (self.values["DoorSubnetIds"] or first["SubnetIds"]).split(",")
        if is_balanced(self.values) and len(subnets) < 2:
            raise OptionError(
                f"a load balancer needs subnets in two zones, and {subnets[0]} is one; expected --door-subnet-ids "
                "with two or more, or --door-reach private"
            )

    def _check_reach(self, http, where):
        """Who would reach the door, and what he would have to know."""
        idle = [option(name) for name in BALANCERS if name in self.given]
        if idle and not is_balanced(self.values):
            raise OptionError(
                f"{', '.join(idle)} would have no effect without a balancer, which TLS and the rest are a matter of; "
                "expected --door-reach load-balancer beside"
            )
        if is_public(self.values):
            if not self.values["CertificateArn"]:
                raise OptionError(
                    "an internet-facing door needs a certificate, or tokens would cross the internet in plain HTTP; "
                    "expected --certificate-arn, or --door-scheme internal"
                )
        else:
            self._check_private()
        if http["auth"] == "none":
            self._check_without_tokens(http, where)
        self._warn_of_proxies(http["proxies"])

    def _check_private(self):
        network = self.values["DoorCidr"]
        if not network:
            raise OptionError(
                "DoorCidr is empty, and the door is for a private network; expected --door-cidr with that which may "
                "reach it, such as 10.0.0.0/16"
            )
        # A task may have a public address, where that is its way out.
        if not is_balanced(self.values) and ipaddress.ip_network(network, strict=False).is_global:
            raise OptionError(
                f'--door-cidr "{network}" is not private, and tokens would cross the internet in plain HTTP; expected a '
                "private network, such as 10.0.0.0/16, or --door-reach load-balancer with a certificate"
            )

    def _check_without_tokens(self, http, where):
        if not http.get("hosts"):
            raise fleets.FleetError(
                f'[http] auth is "none" in {where}, and there are no hosts: a page in the browser of anybody who reaches '
                'the door could make its own name lead there; expected hosts = ["door.example.com"] with the names by '
                "which callers reach it"
            )
        if is_public(self.values) and not (self.without_tokens or self.was_public):
            raise OptionError(
                f'[http] auth is "none" in {where}, and the door is internet-facing: anybody could start and stop '
                "machines; expected tokens, --door-scheme internal, or, in so many words, --door-without-tokens"
            )
        self.say('warn   [http] auth is "none": whoever reaches the door may start and stop machines')

    def _warn_of_proxies(self, proxies):
        """Whose address a caller has, and so whose limit; the fleet says it, since only it knows what else there is."""
        if is_balanced(self.values) and proxies == 0:
            self.say("warn   [http] proxies is 0: to the door all callers have the balancer's address; expected proxies = 1")
        if not is_balanced(self.values) and proxies != 0:
            self.say("warn   [http] proxies is not 0: without a balancer callers may say any address; expected proxies = 0")

    # -- Steps ------------------------------------------------------------------------------------

    def smoke(self, seconds):
        """GET /healthz, of the balancer itself: the name that DNS shall point to it may still be to come."""
        outputs, values = self.stack.outputs(), self.stack.parameters()
        address, url = outputs.get("BalancerAddress"), outputs.get("DoorUrl")
        if address is None:
            self.say(f"  {url}/healthz is not asked: the door has no balancer, and only its network reaches it")
            return
        is_secure = bool(values["CertificateArn"])
        is_open = is_public(values) and values["DoorCidr"] in ("", "0.0.0.0/0")
        asker = Asker(address, 443 if is_secure else 80, is_secure, values["DoorHostname"])
        found = asker.until_it_is_well(seconds, seconds if is_open else min(seconds, REACH_SECONDS))
        log = f"scripts/logs door -e {self.env} shows the door's log"
        if found == 200:
            self.say(f"  {url}/healthz answered 200")
        elif isinstance(found, int):
            raise DoorError(f"{url}/healthz still answers {found} after {seconds} s; {log}")
        elif is_open:
            raise DoorError(f"{url}/healthz cannot be reached after {seconds} s ({found}); {log}")
        else:
            network = values["DoorCidr"]
            self.say(f"  {url}/healthz cannot be reached from here ({found}), and need not be: it is for {network}")


class Asker:
    """Asks a balancer for /healthz, by its address and in another name where there is one."""

    def __init__(self, address, port, is_secure, hostname):
        self.address, self.port, self.hostname = address, port, hostname
        self.context = ssl.create_default_context() if is_secure else None
        if self.context and not hostname:
            # The certificate is for a name that only its owner knows; that it is a good one is seen all the same.
            self.context.check_hostname = False

    def ask(self):
        """The status of one answer."""
        plain = socket.create_connection((self.address, self.port), ANSWER_SECONDS)
        with self.context.wrap_socket(plain, server_hostname=self.hostname or None) if self.context else plain as wire:
            connection = HTTPConnection(self.hostname or self.address)
            connection.sock = wire
            connection.request("GET", "/healthz")
            return connection.getresponse().status

    def until_it_is_well(self, seconds, reach_seconds):
        """200 as soon as it answers so, else the last status after `seconds`, or what kept it from being reached."""
        began, found = time.monotonic(), None
        while True:
            try:
                found = self.ask()
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except (OSError, HTTPException) as error:
                found = found if isinstance(found, int) else str(error) or type(error).__name__
            past = time.monotonic() - began
            if found == 200 or past >= (seconds if isinstance(found, int) else reach_seconds):
                return found
            time.sleep(LOOK_EVERY_SECONDS)
