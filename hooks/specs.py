"""Every hook, in the order in which a node and then a pod meets it.

A plugin marks its methods with ``@hookimpl`` and takes any subset of the arguments.
Hooks declare: they return values and do no I/O of their own; the core does the rest.
Each docstring says when the hook is called, what it is given, what it returns, which
errors it may raise, and what happens when the core must undo or repeats it.
"""

from __future__ import annotations

from collections.abc import Iterable

from eniplug.hooks.capacity import Action, CapacityView
from eniplug.hooks.errors import EniplugError
from eniplug.hooks.marks import hookspec
from eniplug.hooks.objects import Object
from eniplug.hooks.values import Allocation, Keep, Node, Pod, Pool

# -- the node ------------------------------------------------------------------------


@hookspec
def node_objects(node: Node) -> Iterable[Object]:  # type: ignore[empty-body]
    """Declare what the node must have once: tables, rules, ENI routes, sysctls.

    When: at the agent's start and whenever the node's facts change (an ENI comes or
    goes, the VPC's CIDRs change).
    Given: the node.
    Return: objects of side HOST.
    Errors: any error stops the agent's start, or leaves the node as it was.
    Undo / run twice: only the difference to the last declaration is changed.
    """


@hookspec(firstresult=True)
def plan_capacity(view: CapacityView) -> Iterable[Action] | None:
    """Decide what the pool does next: ask EC2 for addresses, or give some back.

    When: after the pool changed, a pod waits, or time passed; never on the ADD path.
    Given: the pool at one moment.
    Return: actions in order of importance, none if all is well; the first plugin's
    answer counts.
    Errors: logged; the pool stays as it is and is planned again later.
    Undo / run twice: must be pure. The same view gives the same actions, and once they
    are carried out, none.
    """


# -- a pod comes ---------------------------------------------------------------------


@hookspec(firstresult=True)
def allocate_ip(pod: Pod, pool: Pool) -> Allocation | None:
    """Give the pod its addresses.

    When: first in each ADD of an entry with an address plugin.
    Given: the pod, and a desk at the pool.
    Return: an allocation, usually ``Allocation.of(pod, pool.take())``; None leaves it
    to the next plugin; the first answer counts.
    Errors: PoolEmptyError of the desk is let pass: the core waits and asks again. Any
    other EniplugError refuses the pod.
    Undo / run twice: what was taken goes back by itself when the ADD fails; the hook
    may be called several times for one ADD.
    """


@hookspec
def setup_netns(pod: Pod, allocation: Allocation, node: Node) -> Iterable[Object]:  # type: ignore[empty-body]
    """Declare the pod's interface: links, addresses, sysctls, shaping.

    When: in ADD, after allocate_ip.
    Given: the pod, what it was given, the node.
    Return: objects of either side.
    Errors: an EniplugError refuses the pod.
    Undo / run twice: by the core; must be pure.
    """


@hookspec
def program_routes(pod: Pod, allocation: Allocation, node: Node) -> Iterable[Object]:  # type: ignore[empty-body]
    """Declare how packets reach the pod and leave it: routes, rules, neighbours.

    When: in ADD, after setup_netns.
    Given: the pod, what it was given, the node.
    Return: objects of either side.
    Errors: an EniplugError refuses the pod.
    Undo / run twice: by the core; must be pure.
    """


@hookspec
def egress(pod: Pod, allocation: Allocation, node: Node) -> Iterable[Object]:  # type: ignore[empty-body]
    """Declare the pod's ways out of the VPC: address translation, extra addresses.

    When: in ADD, after program_routes.
    Given: the pod, what it was given, the node.
    Return: objects of either side.
    Errors: an EniplugError refuses the pod.
    Undo / run twice: by the core; must be pure.
    """


@hookspec
def attached(pod: Pod, allocation: Allocation) -> None:
    """Observe that a pod is attached.

    When: after ADD was answered.
    Given: the pod and what it has.
    Return: nothing.
    Errors: logged.
    Undo / run twice: called once for an ADD that succeeded.
    """


@hookspec
def refused(pod: Pod, error: EniplugError) -> None:
    """Observe that a pod was refused.

    When: after an ADD was answered with an error.
    Given: the pod, and why.
    Return: nothing.
    Errors: logged.
    Undo / run twice: called for each failed ADD.
    """


# -- a pod goes ----------------------------------------------------------------------


@hookspec(firstresult=True)
def release_ip(pod: Pod, allocation: Allocation) -> Keep | None:
    """Learn that a pod's addresses go back to the pool, or have them kept for somebody.

    When: in DEL, just before its answer; or after the attachment was removed for
    another reason: a DEL that was missed, GC, or because its link was gone.
    Given: the pod as it was at ADD, and what it had.
    Return: a Keep, for the next pod that takes them by its key; None lets them go.
    Errors: logged; the addresses go back all the same.
    Undo / run twice: called once for each part that went.
    """


@hookspec
def detached(pod: Pod, allocation: Allocation) -> None:
    """Observe that a pod is gone.

    When: after release_ip, once DEL was answered.
    Given: the pod as it was at ADD, and what it had.
    Return: nothing.
    Errors: logged.
    Undo / run twice: called once for each part that went.
    """
