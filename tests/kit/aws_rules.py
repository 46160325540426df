"""The AWS VPC CNI's rules, as text (amazon-vpc-cni-k8s, pkg/networkutils)."""

from __future__ import annotations

MARKS = """
table ip aws-cni {
  chain snat-mark {
    ip daddr 10.0.0.0/16 counter return
    counter ct mark set ct mark | 0x80
  }
  chain nat-prerouting {
    type nat hook prerouting priority -90; policy accept;
    fib daddr type local return
    iifname "eni*" counter jump snat-mark
    counter meta mark set ct mark & 0x80
  }
}
"""
"""For nft: its marks, where it finds iptables-nft."""

_SNAT = """\
*mangle
-A PREROUTING -i ens5 -m comment --comment "AWS, primary ENI" -m addrtype \
--dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80
-A PREROUTING -i eni+ -m comment --comment "AWS, primary ENI" \
-j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
COMMIT
*nat
:AWS-SNAT-CHAIN-0 - [0:0]
:AWS-SNAT-CHAIN-1 - [0:0]
:AWS-CONNMARK-CHAIN-0 - [0:0]
-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0
-A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN
-A AWS-SNAT-CHAIN-0 -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-1
-A AWS-SNAT-CHAIN-1 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype \
! --dst-type LOCAL -j SNAT --to-source 10.0.0.4 --random-fully
-A PREROUTING -i eni+ -m comment --comment "AWS, outbound connections" \
-j AWS-CONNMARK-CHAIN-0
-A PREROUTING -m comment --comment "AWS, CONNMARK" \
-j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
-A AWS-CONNMARK-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS CONNMARK CHAIN" \
-j RETURN
-A AWS-CONNMARK-CHAIN-0 -m comment --comment "AWS, CONNMARK" \
-j CONNMARK --set-xmark 0x80/0x80
COMMIT
"""


def snat(own: str) -> str:
    """Write its rules for iptables-restore: its marks in their other form, and SNAT.

    A second chain is what an old version left.  ``own`` is the node's address.
    """
    return _SNAT.replace("10.0.0.4", own)
