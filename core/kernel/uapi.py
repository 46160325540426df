"""Numbers of the kernel's netlink interface, under the names of its headers.

linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h, neighbour.h, netconf.h, fib_rules.h,
ip.h, pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h, netfilter/nf_tables.h and
nfnetlink_conntrack.h; asm-generic/socket.h.  Plain integers: they are packed thousands
of times a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHK: Final = 12

NETLINK_ADD_MEMBERSHIP: Final = 1
SO_ATTACH_FILTER: Final = 26
SO_RCVBUFFORCE: Final = 33

RTNLGRP_LINK: Final = 1
RTNLGRP_NEIGH: Final = 3
RTNLGRP_TC: Final = 4
RTNLGRP_IPV4_IFADDR: Final = 5
RTNLGRP_IPV4_ROUTE: Final = 7
RTNLGRP_IPV4_RULE: Final = 8
RTNLGRP_IPV6_IFADDR: Final = 9
RTNLGRP_IPV6_ROUTE: Final = 11
RTNLGRP_IPV6_RULE: Final = 19
RTNLGRP_IPV4_NETCONF: Final = 24
RTNLGRP_IPV6_NETCONF: Final = 25
NFNLGRP_NFTABLES: Final = 7

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_ECHO: Final = 0x8
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_ACK_TLVS: Final = 0x200
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLMSGERR_ATTR_MSG: Final = 1
NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF

AF_INET: Final = 2
AF_INET6: Final = 10

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30
RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
RTM_GETRULE: Final = 34
RTM_NEWQDISC: Final = 36
RTM_DELQDISC: Final = 37
RTM_GETQDISC: Final = 38
RTM_NEWTFILTER: Final = 44
RTM_DELTFILTER: Final = 45
RTM_GETTFILTER: Final = 46
RTM_NEWNETCONF: Final = 80

IFF_UP: Final = 0x1
IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_AF_SPEC: Final = 26
IFLA_GROUP: Final = 27
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_NUM_TX_QUEUES: Final = 31
IFLA_NUM_RX_QUEUES: Final = 32
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
VETH_INFO_PEER: Final = 1
IFLA_INET_CONF: Final = 1
IFLA_INET6_ADDR_GEN_MODE: Final = 8
IN6_ADDR_GEN_MODE_NONE: Final = 1
RTEXT_FILTER_SKIP_STATS: Final = 8

IPV6_MIN_MTU: Final = 1280
"""The kernel gives a link with less no IPv6 at all, and refuses settings for it."""

IPV4_DEVCONF: Final[Mapping[str, int]] = {
    "forwarding": 1,
    "proxy_arp": 3,
    "send_redirects": 6,
    "rp_filter": 8,
    "arp_announce": 18,
    "arp_ignore": 19,
    "accept_local": 23,
    "route_localnet": 26,
}

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 0x02
IFA_F_PERMANENT: Final = 0x80
IFA_F_NOPREFIXROUTE: Final = 0x200

RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_MULTIPATH: Final = 9
RTA_TABLE: Final = 15
RTA_ENCAP: Final = 22
RTA_NH_ID: Final = 30
RTN_UNICAST: Final = 1
RTN_LOCAL: Final = 2
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_LINK: Final = 253
RTM_F_CLONED: Final = 0x200
RTNH_F_ONLINK: Final = 4
IP6_RT_PRIO_USER: Final = 1024
"""The metric of an IPv6 route that was made with none."""

NDA_DST: Final = 1
NDA_LLADDR: Final = 2
NDA_IFINDEX: Final = 8
NUD_PERMANENT: Final = 0x80

NETCONFA_IFINDEX: Final = 1

FRA_DST: Final = 1
FRA_SRC: Final = 2
FRA_IIFNAME: Final = 3
FRA_PRIORITY: Final = 6
FRA_FWMARK: Final = 10
FRA_SUPPRESS_PREFIXLEN: Final = 14
FRA_TABLE: Final = 15
FRA_FWMASK: Final = 16
FRA_PROTOCOL: Final = 21
FR_ACT_TO_TBL: Final = 1
FIB_RULE_INVERT: Final = 2
RT_TABLE_COMPAT: Final = 252
"""What stands in the header's one byte for a table that does not fit in it."""

TCA_KIND: Final = 1
TCA_OPTIONS: Final = 2
TC_H_ROOT: Final = 0xFFFFFFFF
TC_H_INGRESS: Final = 0xFFFFFFF1
TC_LINKLAYER_ETHERNET: Final = 1
TCA_TBF_PARMS: Final = 1
TCA_TBF_RATE64: Final = 4
TCA_TBF_BURST: Final = 6
ETH_P_ALL: Final = 3
TCA_U32_SEL: Final = 5
TCA_U32_ACT: Final = 7
TC_U32_TERMINAL: Final = 1
TCA_ACT_KIND: Final = 1
TCA_ACT_OPTIONS: Final = 2
TCA_MIRRED_PARMS: Final = 2
TCA_EGRESS_REDIR: Final = 1
TC_ACT_STOLEN: Final = 4

NFT_MSG_GETTABLE: Final = 0xA01
NFT_MSG_GETCHAIN: Final = 0xA04
NFT_MSG_NEWSETELEM: Final = 0xA0C
NFT_MSG_GETSETELEM: Final = 0xA0D
NFT_MSG_DELSETELEM: Final = 0xA0E
NFT_MSG_DESTROYSETELEM: Final = 0xA1E
NFNL_SUBSYS_NFTABLES: Final = 10
NFNL_MSG_BATCH_BEGIN: Final = 0x10
NFNL_MSG_BATCH_END: Final = 0x11
NFTA_SET_ELEM_LIST_TABLE: Final = 1
NFTA_SET_ELEM_LIST_SET: Final = 2
NFTA_SET_ELEM_LIST_ELEMENTS: Final = 3
NFTA_LIST_ELEM: Final = 1
NFTA_SET_ELEM_KEY: Final = 1
NFTA_SET_ELEM_DATA: Final = 2
NFTA_DATA_VALUE: Final = 1
NFT_MSG_NEWGEN: Final = 0xA0F
NFTA_GEN_PROC_PID: Final = 2
NFTA_GEN_PROC_NAME: Final = 3
NFTA_TABLE: Final = 1
"""The table's name, in every message about what is in one."""
NFTA_TABLE_NAME: Final = 1

IPCTNL_MSG_CT_GET: Final = 0x101
IPCTNL_MSG_CT_DELETE: Final = 0x102
CTA_TUPLE_ORIG: Final = 1
CTA_ZONE: Final = 18
CTA_FILTER: Final = 25
CTA_TUPLE_PROTO: Final = 2
CTA_PROTO_NUM: Final = 1
CTA_PROTO_DST_PORT: Final = 3
CTA_FILTER_ORIG_FLAGS: Final = 1
CTA_FILTER_REPLY_FLAGS: Final = 2
CTA_FILTER_F_PROTO_NUM: Final = 1 << 3
CTA_FILTER_F_PROTO_DST_PORT: Final = 1 << 5
NFTA_CHAIN_TABLE: Final = 1
NFTA_CHAIN_NAME: Final = 3
NFTA_CHAIN_USE: Final = 6
NFPROTO: Final[Mapping[str, int]] = {"inet": 1, "ip": 2, "ip6": 10}
