"""Every error that a plugin or the core raises, with what it becomes outside.

::

    EniplugError                     999  internal
    ├── VersionError                   1  unsupported-version
    ├── UnsupportedError               2  unsupported-field
    ├── UnknownContainerError          3  unknown-container
    ├── VariableError                  4  bad-environment
    │   └── NetnsError                 4  bad-netns
    ├── ReadError                      5  read-failed
    │   └── StoreError                 5  store-failed
    ├── DecodeError                    6  bad-json
    ├── ConfigError                    7  bad-config
    │   ├── UnknownPluginError         7  unknown-plugin
    │   ├── OptionError                7  bad-option
    │   ├── ConflictError              7  conflicting-objects
    │   │   └── TakenError             7  taken
    │   └── InterfaceTakenError        7  interface-taken
    ├── RetryError                    11  try-again
    │   ├── PoolEmptyError            11  pool-empty
    │   │   ├── CoolingError          11  cooling-down
    │   │   ├── QuarantineError       11  quarantined
    │   │   ├── EniLimitError         11  eni-limit
    │   │   ├── SubnetFullError       11  subnet-full
    │   │   ├── NoFreePrefixError     11  no-free-prefix
    │   │   └── UnschedulableError    11  unschedulable
    │   ├── CancelledError            11  cancelled
    │   ├── RangeFullError            11  range-full
    │   ├── ElasticIpLimitError       11  elastic-ip-limit
    │   ├── ThrottledError            11  throttled
    │   ├── BusyError                 11  busy
    │   └── AgentAwayError            11  agent-away
    ├── NotReadyError                 50  not-ready
    ├── LimitedError                  51  limited-connectivity
    ├── CloudError                   101  cloud
    │   ├── CloudAwayError           101  cloud-away
    │   ├── CloudSlowError           101  cloud-slow
    │   ├── DeniedError              101  denied
    │   └── StaleMetadataError       101  imds-stale
    ├── KernelError                  102  kernel
    │   └── ForeignObjectError       102  foreign-object
    ├── PluginError                  104  plugin-failed
    │   ├── PluginSlowError          104  plugin-slow
    │   ├── PluginShutError          104  plugin-shut
    │   └── NotThePodsError          104  not-the-pods
    └── CheckError                   103  check-failed

Codes below 100 are the CNI specification's ("Error"); 100 and up are ours.
``reason`` is stable: it stands in the CNI error's details, in the log and in
counters, and may be matched on.
"""

from __future__ import annotations

from typing import ClassVar


class EniplugError(Exception):
    """The base of every error that reaches the runtime as CNI error JSON.

    ``details`` says what an operator does about it; a class has a default
    (``remedy``), a raiser may know better.
    """

    code: ClassVar[int] = 999
    reason: ClassVar[str] = "internal"
    remedy: ClassVar[str] = "this is a bug in eniplug: please report the agent's log"

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = details or self.remedy


class VersionError(EniplugError):
    """A cniVersion that eniplug does not speak."""

    code = 1
    reason = "unsupported-version"
    remedy = "set cniVersion in the conflist to one of 0.3.0 to 1.1.0"


class UnsupportedError(EniplugError):
    """A field whose value cannot be honoured; the message holds both."""

    code = 2
    reason = "unsupported-field"
    remedy = "correct the field in the conflist"


class UnknownContainerError(EniplugError):
    """No attachment of that container and interface is known."""

    code = 3
    reason = "unknown-container"
    remedy = "the pod was never added here, or was deleted: recreate it"


class VariableError(EniplugError):
    """A CNI_* variable is missing or unusable; the message names it."""

    code = 4
    reason = "bad-environment"
    remedy = "the container runtime must set the CNI_* variables"


class NetnsError(VariableError):
    """CNI_NETNS is no network namespace, or is the host's."""

    reason = "bad-netns"
    remedy = "CNI_NETNS must be the path of the pod's own network namespace"


class ReadError(EniplugError):
    """Standard input, a file or a socket could not be read or written."""

    code = 5
    reason = "read-failed"
    remedy = "see the message: the path and the system's reason stand there"


class StoreError(ReadError):
    """The agent's store could not be written; nothing was changed."""

    reason = "store-failed"
    remedy = "free space in /run, or see what else the message says of the file"


class DecodeError(EniplugError):
    """Not JSON, or not the shape that is wanted."""

    code = 6
    reason = "bad-json"
    remedy = "correct the configuration: the place stands in the message"


class ConfigError(EniplugError):
    """The configuration asks for something that cannot be."""

    code = 7
    reason = "bad-config"
    remedy = "correct the conflist or the setting that the message names"


class UnknownPluginError(ConfigError):
    """The conflist names a plugin that is not installed."""

    reason = "unknown-plugin"
    remedy = "`eniplug plugins` lists those that are installed"


class OptionError(ConfigError):
    """A plugin has no such option, or the value does not fit."""

    reason = "bad-option"
    remedy = "docs/plugins.md lists every plugin's options"


class ConflictError(ConfigError):
    """Two plugins, or two pods, declare different objects under one key."""

    reason = "conflicting-objects"
    remedy = "remove one of the plugins from the conflist entry"


class TakenError(ConflictError):
    """Another pod has what this one claims, such as a host port."""

    reason = "taken"
    remedy = "delete that pod, or let this one ask for another"


class InterfaceTakenError(ConfigError):
    """The pod already has an interface of that name."""

    reason = "interface-taken"
    remedy = "delete the attachment first; an ADD is not repeated on a live one"


class RetryError(EniplugError):
    """Passes by itself: the runtime should try again."""

    code = 11
    reason = "try-again"
    remedy = "nothing: the runtime repeats the request"


class PoolEmptyError(RetryError):
    """No address is free on this node just now."""

    reason = "pool-empty"
    remedy = "more addresses are on their way, or raise WARM_IP_TARGET"


class CoolingError(PoolEmptyError):
    """Every address that is free was used a moment ago, and cools down."""

    reason = "cooling-down"
    remedy = "wait, or lower IP_COOLDOWN_PERIOD, or raise WARM_IP_TARGET"


class QuarantineError(PoolEmptyError):
    """What is free is held back: EC2 no longer shows it as this node's."""

    reason = "quarantined"
    remedy = "`eniplug status` says what was seen; it is asked for again by itself"


class EniLimitError(PoolEmptyError):
    """Every ENI that the instance type or MAX_ENI allows is full."""

    reason = "eni-limit"
    remedy = "fewer pods on this node, a larger instance type, or a higher MAX_ENI"


class SubnetFullError(PoolEmptyError):
    """The subnet has no free address left."""

    reason = "subnet-full"
    remedy = "free addresses in the subnet or give the node another one"


class NoFreePrefixError(PoolEmptyError):
    """The subnet has no free block of the prefix's size left."""

    reason = "no-free-prefix"
    remedy = "reserve a CIDR block for prefixes in the subnet"


class UnschedulableError(PoolEmptyError):
    """The node is cordoned, so its ENIs and addresses are left as they are."""

    reason = "unschedulable"
    remedy = "uncordon the node, or set AWS_MANAGE_ENIS_NON_SCHEDULABLE=true"


class CancelledError(RetryError):
    """A waiting ADD was given up: its DEL came, its caller left, or the agent stops."""

    reason = "cancelled"


class RangeFullError(RetryError):
    """A plugin's own range has no address for one more pod of this node."""

    reason = "range-full"
    remedy = "give the plugin a wider subnet in the conflist, or run fewer pods here"


class ElasticIpLimitError(RetryError):
    """The account may have no more Elastic IPs in the region."""

    reason = "elastic-ip-limit"
    remedy = "release Elastic IPs, or raise the quota EC2-VPC Elastic IPs"


class ThrottledError(RetryError):
    """EC2 refuses calls because there were too many."""

    reason = "throttled"
    remedy = "nothing: calls slow down; ask AWS for a higher request rate if it lasts"


class BusyError(RetryError):
    """More requests are running than the agent accepts at a time."""

    reason = "busy"


class AgentAwayError(RetryError):
    """The agent does not answer."""

    reason = "agent-away"
    remedy = "see that `eniplug agent` runs on this node and what its log says"


class NotReadyError(EniplugError):
    """STATUS: no ADD can succeed now."""

    code = 50
    reason = "not-ready"
    remedy = "wait; the agent's log says what it waits for"


class LimitedError(EniplugError):
    """STATUS: no ADD can succeed, and running pods suffer."""

    code = 51
    reason = "limited-connectivity"
    remedy = "see the agent's log"


class CloudError(EniplugError):
    """EC2 or IMDS answered with an error."""

    code = 101
    reason = "cloud"
    remedy = "see the API's own words in the message"


class CloudAwayError(CloudError):
    """EC2 cannot be reached, or says that it is out of service."""

    reason = "cloud-away"
    remedy = "see that the node reaches EC2's endpoint, and AWS's health page"


class CloudSlowError(CloudError):
    """EC2 was reached, and did not answer in time."""

    reason = "cloud-slow"
    remedy = "nothing: it is asked again; see AWS's health page if it lasts"


class DeniedError(CloudError):
    """The node's role may not make that call."""

    reason = "denied"
    remedy = "grant the action that the message names to the node's IAM role"


class StaleMetadataError(CloudError):
    """IMDS and EC2 contradict each other for longer than they should."""

    reason = "imds-stale"
    remedy = "nothing: it is asked again; if it lasts, restart the instance"


class KernelError(EniplugError):
    """The kernel refused an object; the message has its words."""

    code = 102
    reason = "kernel"
    remedy = "see the kernel's words in the message"


class ForeignObjectError(KernelError):
    """Somebody else's object has the same key and another value."""

    reason = "foreign-object"
    remedy = (
        "remove that object, or stop the tool that makes it;"
        " what the AWS VPC CNI left, `eniplug migrate` removes"
    )


class CheckError(EniplugError):
    """CHECK found objects that are missing or different; the message names them."""

    code = 103
    reason = "check-failed"
    remedy = "delete the pod: its next one is set up afresh"


class PluginError(EniplugError):
    """A plugin's hook raised, or returned something that it may not.

    ``plugin`` is its name in the conflist.
    """

    code = 104
    reason = "plugin-failed"
    remedy = "see the traceback in the agent's log and report it to the plugin's author"

    def __init__(self, message: str, details: str = "", *, plugin: str = "") -> None:
        super().__init__(message, details)
        self.plugin = plugin


class PluginSlowError(PluginError):
    """A plugin's hook did not end in time; its thread was left behind."""

    reason = "plugin-slow"
    remedy = "report it to the plugin's author, or take the plugin out of the conflist"


class PluginShutError(PluginError):
    """A plugin hung three times in a row, and is not called for a minute."""

    reason = "plugin-shut"
    remedy = "wait, or take the plugin out of the conflist; `eniplug status` counts"


class NotThePodsError(PluginError):
    """A plugin declared for a pod what is another's, or the node's."""

    reason = "not-the-pods"
    remedy = "report it to the plugin's author: what pods share is for node_objects"
