"""Frames made byte by byte, for a synthetic guest that may lie about everything."""

import socket
import struct

BROADCAST = b"\xff" * 6
ICMP, TCP, UDP = 1, 6, 17


def mac(text):
    """Six bytes from aa:bb:..."""
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def ethernet(destination, source, ethertype, payload):
    """An Ethernet II frame."""
    return destination + source + struct.pack("!H", ethertype) + payload


def ipv4(source, destination, protocol, payload, fragment=0, options=b"", total=None):
    """An IPv4 packet; @fragment is the field with flags and offset."""
    words = 5 + len(options) // 4
    length = words * 4 + len(payload) if total is None else total
    header = struct.pack("!BBHHHBBH4s4s", 0x40 | words, 0, length, 1, fragment, 64, protocol, 0,
                         socket.inet_aton(source), socket.inet_aton(destination)) + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def udp(source, destination, data):
    """A UDP datagram with its checksum; @source and @destination are (ip, port)."""
    length = 8 + len(data)
    header = struct.pack("!HHHH", source[1], destination[1], length, 0)
    pseudo = socket.inet_aton(source[0]) + socket.inet_aton(destination[0]) + struct.pack("!BBH", 0, UDP, length)
    return header[:6] + struct.pack("!H", checksum(pseudo + header + data) or 0xFFFF) + data


def udp_packet(source, destination, data, **ip_fields):
    """IPv4 with UDP in it."""
    return ipv4(source[0], destination[0], UDP, udp(source, destination, data), **ip_fields)


def tcp_syn(source, destination):
    """IPv4 with the first segment of a TCP connection; its checksum is left zero."""
    segment = struct.pack("!HHIIBBHHH", source[1], destination[1], 1, 0, 5 << 4, 2, 1024, 0, 0)
    return ipv4(source[0], destination[0], TCP, segment)


def icmp_echo(sequence=0):
    """An ICMP echo request."""
    message = struct.pack("!BBHHH8s", 8, 0, 0, 0x4F4D, sequence, b"omertad?")
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def arp(operation, sender_mac, sender_ip, target_mac, target_ip):
    """An ARP packet for IPv4 over Ethernet. @operation: 1 asks, 2 answers"""
    return struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, sender_mac, socket.inet_aton(sender_ip),
                       target_mac, socket.inet_aton(target_ip))


def dhcp(kind, client_mac, transaction, options=b""):
    """A BOOTP request with DHCP message type @kind (1 discover, 3 request)."""
    fixed = struct.pack("!BBBBIHH4s4s4s4s16s64s128s", 1, 1, 6, 0, transaction, 0, 0x8000, bytes(4), bytes(4), bytes(4),
                        bytes(4), client_mac, b"", b"")
    return fixed + b"\x63\x82\x53\x63" + bytes((53, 1, kind)) + options + b"\xff"


def dhcp_options(message):
    """The options of a DHCP message, by number."""
    found, rest = {}, message[240:]
    while rest and rest[0] != 255:
        if rest[0]:
            found[rest[0]] = rest[2:2 + rest[1]]
            rest = rest[2 + rest[1]:]
        else:
            rest = rest[1:]
    return found
