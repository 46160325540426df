"""EC2's calls about ENIs: from the parameters of a request to the form of its answer.

moto reads requests and writes answers by botocore's model of EC2; the calls that are
not here are moto's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from botocore.model import OperationNotFoundError
from moto.core.request import Request  # pyright: ignore[reportPrivateImportUsage]
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.responses import EC2Response
from moto.ec2.utils import add_tag_specification

from eniplug.lab.ec2 import Ec2
from eniplug.lab.rules import Ec2Error
from eniplug.lab.space import NOTHING, Order


class Api(EC2Response):
    """One request; moto calls the method that is named like the action."""

    def __init__(self, backend: Ec2) -> None:
        super().__init__()
        self._backend = backend

    @property
    def ec2_backend(self) -> Ec2:
        """The one account and region that there is."""
        return self._backend

    def get_region_from_url(self, request: Any, full_url: str) -> str:
        """Return the one region that there is."""
        return self._backend.region_name

    def answer(self, environ: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        """Answer a WSGI request: status, headers, body.  Raises Ec2Error."""
        request = Request(environ)
        try:
            status, headers, body = self._dispatch(
                request, request.url, request.headers
            )
        except (NotImplementedError, OperationNotFoundError):
            action = request.values.get("Action", "")
            message = f"The action {action} is not valid for this web service."
            raise Ec2Error("InvalidAction", message) from None
        return status, headers, body.encode() if isinstance(body, str) else body

    def create_network_interface(self) -> ActionResult:
        """Make an ENI, or tell of the one that the same ClientToken made."""
        subnet = self.ec2_backend.get_subnet(self._needed("SubnetId"))
        self.error_on_dryrun()
        ec2, token, call = self._backend, self._get_param("ClientToken"), self._call()
        eni = ec2.enis.get(ec2.tokens.find(token, call) or "")
        if eni is None:
            eni = ec2.create_network_interface(
                subnet,
                self._get_param("PrivateIpAddress"),
                self._get_param("PrivateIpAddresses", []),
                self._get_param("Groups", []),
                self._get_param("Description"),
                add_tag_specification(self._get_param("TagSpecifications", [])),
                order=self._order4("SecondaryPrivateIpAddressCount", listed=False),
                order6=self._order6(),
            )
            ec2.tokens.keep(token, call, eni.id)
        return ActionResult({"NetworkInterface": eni.answer(), "ClientToken": token})

    def describe_network_interfaces(self) -> ActionResult:
        """List ENIs, in pages where they are asked for."""
        filters = self._filters_from_querystring()
        self.error_on_dryrun()
        ids = self._get_param("NetworkInterfaceIds", [])
        enis = self.ec2_backend.get_all_network_interfaces(ids, filters)
        start = _page(self._get_param("NextToken"))
        size = int(self._get_param("MaxResults", 0)) or len(enis)
        more = str(start + size) if start + size < len(enis) else None
        page = [eni.answer() for eni in enis[start : start + size]]
        return ActionResult({"NetworkInterfaces": page, "NextToken": more})

    def describe_network_interface_attribute(self) -> ActionResult:
        """Tell one attribute of an ENI."""
        self.error_on_dryrun()
        id_, attribute = self._needed("NetworkInterfaceId"), self._needed("Attribute")
        answer = self.ec2_backend.get_network_interface(id_).answer()
        values = {
            "description": ("Description", {"Value": answer["Description"]}),
            "groupSet": ("Groups", answer["Groups"]),
            "sourceDestCheck": (
                "SourceDestCheck",
                {"Value": answer["SourceDestCheck"]},
            ),
            "attachment": ("Attachment", answer["Attachment"]),
        }
        if attribute not in values:
            message = f"The attribute '{attribute}' is invalid"
            raise Ec2Error("InvalidParameterValue", message)
        return ActionResult({"NetworkInterfaceId": id_, **dict([values[attribute]])})

    def attach_network_interface(self) -> ActionResult:
        """Attach an ENI at a device index of a network card."""
        self.error_on_dryrun()
        eni = self.ec2_backend.attach_network_interface(
            self._needed("NetworkInterfaceId"),
            self._needed("InstanceId"),
            int(self._needed("DeviceIndex")),
            int(self._get_param("NetworkCardIndex", 0)),
        )
        answer = {"AttachmentId": eni.attachment_id, "NetworkCardIndex": eni.card}
        return ActionResult(answer)

    def modify_network_interface_attribute(self) -> ActionResult:
        """Change groups, source check, description or what becomes of it."""
        self.error_on_dryrun()
        self.ec2_backend.modify(
            self._needed("NetworkInterfaceId"),
            group_ids=self._get_param("Groups", []),
            source_check=self._get_param("SourceDestCheck.Value"),
            description=self._get_param("Description.Value"),
            attachment=self._get_param("Attachment"),
        )
        return EmptyResult()

    def assign_private_ip_addresses(self) -> ActionResult:
        """Give an ENI secondary addresses or /28 prefixes."""
        eni, order = self._needed("NetworkInterfaceId"), self._order4()
        addresses, prefixes = self.ec2_backend.assign(eni, order, NOTHING)
        answer = {
            "NetworkInterfaceId": eni,
            "AssignedPrivateIpAddresses": [
                {"PrivateIpAddress": str(each)} for each in addresses
            ],
            "AssignedIpv4Prefixes": [{"Ipv4Prefix": str(each)} for each in prefixes],
        }
        return ActionResult(answer)

    def unassign_private_ip_addresses(self) -> ActionResult:
        """Take secondary addresses or prefixes away."""
        self.ec2_backend.unassign(
            self._needed("NetworkInterfaceId"),
            self._get_param("PrivateIpAddresses", []),
            self._get_param("Ipv4Prefixes", []),
        )
        return EmptyResult()

    def assign_ipv6_addresses(self) -> ActionResult:
        """Give an ENI IPv6 addresses or /80 prefixes."""
        eni, order = self._needed("NetworkInterfaceId"), self._order6()
        addresses, prefixes = self.ec2_backend.assign(eni, NOTHING, order)
        answer = {
            "NetworkInterfaceId": eni,
            "AssignedIpv6Addresses": _texts(addresses),
            "AssignedIpv6Prefixes": _texts(prefixes),
        }
        return ActionResult(answer)

    def unassign_ipv6_addresses(self) -> ActionResult:
        """Take IPv6 addresses or prefixes away."""
        eni = self._needed("NetworkInterfaceId")
        addresses = self._get_param("Ipv6Addresses", [])
        prefixes = self._get_param("Ipv6Prefixes", [])
        self.ec2_backend.unassign(eni, addresses, prefixes)
        answer = {
            "NetworkInterfaceId": eni,
            "UnassignedIpv6Addresses": addresses,
            "UnassignedIpv6Prefixes": prefixes,
        }
        return ActionResult(answer)

    def associate_address(self) -> ActionResult:
        """Give an address of an ENI an Elastic IP; moto knows the primary one only."""
        self.error_on_dryrun()
        ec2, instance = self._backend, self._get_param("InstanceId")
        where: dict[str, Any] = (
            {"instance": ec2.get_instance(instance)}
            if instance
            else {"eni": ec2.get_network_interface(self._needed("NetworkInterfaceId"))}
        )
        one = ec2.associate_address(
            **where,
            address=self._get_param("PublicIp"),
            allocation_id=self._get_param("AllocationId"),
            reassociate=self._get_param("AllowReassociation", True),
            private=self._get_param("PrivateIpAddress"),
        )
        return ActionResult({"AssociationId": one.association_id})

    def delete_tags(self) -> ActionResult:
        """Take tags away; moto would not look whether the ENI is there."""
        self.ec2_backend.do_resources_exist(self._get_param("Resources", []))
        return super().delete_tags()

    def terminate_instances(self) -> ActionResult:
        """End instances; moto would import its load balancers to tell them."""
        self.error_on_dryrun()
        ended = self.ec2_backend.terminate_instances(self._get_param("InstanceIds", []))
        changes = [
            {
                "InstanceId": instance.id,
                "CurrentState": {"Code": 32, "Name": "shutting-down"},
                "PreviousState": before,
            }
            for instance, before in ended
        ]
        return ActionResult({"TerminatingInstances": changes})

    def _order4(
        self, count: str = "SecondaryPrivateIpAddressCount", *, listed: bool = True
    ) -> Order:
        return Order(
            addresses=tuple(
                self._get_param("PrivateIpAddresses", []) if listed else ()
            ),
            count=int(self._get_param(count, 0)),
            prefixes=tuple(_values(self._get_param("Ipv4Prefixes", []), "Ipv4Prefix")),
            prefix_count=int(self._get_param("Ipv4PrefixCount", 0)),
        )

    def _order6(self) -> Order:
        addresses = self._get_param("Ipv6Addresses", [])
        prefixes = self._get_param("Ipv6Prefixes", [])
        return Order(
            addresses=tuple(_values(addresses, "Ipv6Address")),
            count=int(self._get_param("Ipv6AddressCount", 0)),
            prefixes=tuple(_values(prefixes, "Ipv6Prefix")),
            prefix_count=int(self._get_param("Ipv6PrefixCount", 0)),
        )

    def _needed(self, name: str) -> Any:
        value = self._get_param(name)
        if value is None:
            message = f"The request must contain the parameter {name}"
            raise Ec2Error("MissingParameter", message)
        return value

    def _call(self) -> str:
        """Return the request's parameters as text, to compare with an earlier one's."""
        return repr({k: v for k, v in self.params.items() if k != "ClientToken"})


def _values(items: Iterable[Any], name: str) -> list[str]:
    """Return the texts of a list, in which one call has objects, another texts."""
    return [item if isinstance(item, str) else item[name] for item in items]


def _texts(items: Iterable[object]) -> list[str]:
    return [str(item) for item in items]


def _page(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdecimal():
        raise Ec2Error(
            "InvalidParameterValue", f"Invalid value '{token}' for NextToken"
        )
    return int(token)
