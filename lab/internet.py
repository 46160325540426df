"""A host on the internet, behind the VPC's internet gateway.

It answers ping, TCP and UDP echo (port 7, RFC 862) and HTTP (port 80), which tells the
caller the address it was seen with.
"""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address
from socketserver import BaseRequestHandler, TCPServer, ThreadingMixIn, UDPServer

from eniplug.lab import netns, tools
from eniplug.lab.fabric import Fabric, six
from eniplug.lab.names import Names
from eniplug.lab.probes import unmapped

ADDRESS = IPv4Address("203.0.113.10")
ADDRESS6 = "2001:db8:ffff::10"
MTU = 1500

_POLL = 0.1
"""Seconds until a server sees that it is to stop."""

_NEAR, _FAR = "203.0.113.1", "203.0.113.2"
_NEAR6, _FAR6 = "2001:db8:fffe::1", "2001:db8:fffe::2"


_FAMILY = socket.AF_INET6 if six() else socket.AF_INET
"""An IPv6 socket takes IPv4 callers too."""


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    address_family = _FAMILY
    allow_reuse_address = True
    request_queue_size = 128


class _DatagramServer(UDPServer):
    address_family = _FAMILY


class _Echo(BaseRequestHandler):
    def handle(self) -> None:
        while got := self.request.recv(65536):
            self.request.sendall(got)


class _DatagramEcho(BaseRequestHandler):
    def handle(self) -> None:
        got, sock = self.request
        sock.sendto(got, self.client_address)


class _Mirror(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one segment: no 40 ms of delayed ACK

    def do_GET(self) -> None:
        body = f"{unmapped(self.client_address[0])}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent: the log is the supervisor's."""


class Internet:
    """The host, its link to the gateway, and its services."""

    def __init__(self, names: Names, fabric: Fabric) -> None:
        netns.create(names.internet)
        self._inside = netns.Inside(names.internet)
        settings = {"ipv4/ip_forward": 0, "ipv4/icmp_ratelimit": 0}
        if six():
            settings |= {"ipv6/conf/default/accept_dad": 0}
        self._inside.call(netns.write, settings)
        peer = f"type veth peer name net0 mtu {MTU} netns {names.internet}"
        fabric.inside.call(tools.ip, [f"link add igw mtu {MTU} {peer}"])
        self._inside.call(tools.ip, _host())
        fabric.inside.call(tools.ip, _gateway())
        fabric.inside.call(netns.write, {"ipv4/conf/igw/proxy_arp": 0})
        self._servers = self._inside.call(_listen)
        for server in self._servers:
            serve = threading.Thread(target=server.serve_forever, args=(_POLL,))
            serve.daemon = True
            serve.start()

    def close(self) -> None:
        """Stop the services; the namespace is removed by its name."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._inside.close()


def _listen() -> list[_Server | _DatagramServer]:
    return [
        _Server(("", 7), _Echo),
        _DatagramServer(("", 7), _DatagramEcho),
        _Server(("", 80), _Mirror),
    ]


def _host() -> list[str]:
    lines = [
        "link set net0 up",
        f"addr add {_FAR}/30 dev net0",
        f"addr add {ADDRESS}/32 dev lo",
        f"route add default via {_NEAR} src {ADDRESS}",
    ]
    if six():
        lines += [
            f"addr add {_FAR6}/64 dev net0 nodad",
            f"addr add {ADDRESS6}/128 dev lo nodad",
            f"route add ::/0 via {_NEAR6} src {ADDRESS6}",
        ]
    return lines


def _gateway() -> list[str]:
    lines = [
        "link set igw up",
        f"addr add {_NEAR}/30 dev igw",
        f"route add default via {_FAR}",
    ]
    if six():
        lines += [
            f"addr add {_NEAR6}/64 dev igw nodad",
            f"route add ::/0 via {_FAR6}",
        ]
    return lines
