"""Attaching ENIs and detaching them: when the device is there, and what EC2 says."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from attrs import evolve
from moto.core.utils import utcnow
from moto.ec2.utils import random_eni_attach_id

from eniplug.lab.eni import Eni
from eniplug.lab.interfaces import Interfaces, no_attachment
from eniplug.lab.models import Instance
from eniplug.lab.rules import Ec2Error


class Attachments(Interfaces):
    """EC2 with attachments that take their time, and are refused as EC2 refuses."""

    def get_instance(self, instance_id: str) -> Instance:
        """Return an instance; moto makes none but ours."""
        return cast(Instance, super().get_instance(instance_id))

    def attach_network_interface(
        self, eni_id: str, instance_id: str, device_index: int, card: int = 0
    ) -> Any:
        """Attach an ENI; the device comes after ``attach_s``, and then the status."""
        eni = self.get_network_interface(eni_id)
        instance = self.get_instance(instance_id)
        if instance.state not in {"running", "stopped"}:
            message = f"Instance '{instance_id}' is not 'running' or 'stopped'."
            raise Ec2Error("IncorrectInstanceState", message)
        if eni.instance is not None:
            message = f"Interface: [{eni_id}] in use."
            raise Ec2Error("InvalidNetworkInterface.InUse", message)
        places = [each.place for each in instance.enis]
        instance.limits.check_place(instance_id, places, card, device_index)
        instance.limits.check_born(eni_id, eni.count, eni.count6)
        if eni.availability_zone != instance.enis[0].availability_zone:
            message = "You may not attach a network interface to an instance if they "
            message += "are not in the same availability zone"
            raise Ec2Error("InvalidParameterCombination", message)
        attachment = random_eni_attach_id()
        eni.join(instance, attachment, utcnow(), device_index, card)
        instance.nics[device_index if card == 0 else (card, device_index)] = eni
        self.timers.later(
            self.faults.attach_s, partial(self._attached, eni, attachment)
        )
        return eni

    def _attached(self, eni: Eni, attachment: str) -> None:
        if eni.attachment_id != attachment or eni.attachment_status != "attaching":
            return
        eni.attachment_status = "attached"
        try:
            self.listener.attached(eni.facts())
        except Exception:
            self._leave(eni)
            raise

    def detach_network_interface(self, attachment_id: str) -> None:
        """Take the device away at once; the ENI is free after ``detach_s``."""
        for eni in self.enis.values():
            if eni.attachment_id == attachment_id:
                break
        else:
            raise no_attachment(attachment_id)
        if eni.place == (0, 0):
            message = "The network interface at device index 0 and networkCard index 0"
            raise Ec2Error("OperationNotPermitted", f"{message} cannot be detached.")
        if eni.attachment_status == "detaching":
            message = f"Interface {eni.id} is currently detaching"
            raise Ec2Error("IncorrectState", message)
        self.listener.detached(evolve(eni.facts(), attachment="detaching"))
        eni.attachment_status = "detaching"
        self.timers.later(
            self.faults.detach_s, partial(self._detached, eni, attachment_id)
        )

    def _detached(self, eni: Eni, attachment: str) -> None:
        if eni.attachment_id == attachment:
            self._leave(eni)

    def _leave(self, eni: Eni) -> None:
        nics = eni.instance.nics if eni.instance is not None else {}
        for place in [place for place, nic in nics.items() if nic is eni]:
            del nics[place]
        eni.leave()
