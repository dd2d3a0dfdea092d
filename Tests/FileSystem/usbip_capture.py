# SPDX-License-Identifier: Apache-2.0
"""What a capture of the USB/IP protocol has in it: each message in its place, and one reply for each command.

    usbip_capture.py FILE PORT [EXPECTED…]

PORT is vusbd's; EXPECTED are names of what must have come, as it prints them.

The streams are taken apart here first, by the kernel's usbip_protocol.rst. Then tshark gets the same messages, and must
find the same, and nothing malformed. It doesn't get the capture itself, but one message a segment, and each answer
behind its command. Wireshark 4.0 is wrong about several messages in a segment, which is how vusbd sends them: a
RET_SUBMIT with an error takes all that follows it, and behind one with data it no longer finds the commands, by which
it knows which way data go. It takes an answer of endpoint 0 for that to the last request, and reads it as another
descriptor. Nor does it get conversations where number_of_packets is 0xffffffff, as the protocol's document has it: it
multiplies that by 16.
"""

import collections
import pathlib
import struct
import subprocess
import sys
import tempfile

# The first four bytes: a command, or the version and an operation's code.
SUBMIT, UNLINK, RET_SUBMIT, RET_UNLINK = range(1, 5)
REQUEST_LIST, REPLY_LIST, REQUEST_IMPORT, REPLY_IMPORT = 0x0111_8005, 0x0111_0005, 0x0111_8003, 0x0111_0003
NAMES = {SUBMIT: "submit", UNLINK: "unlink", RET_SUBMIT: "ret_submit", RET_UNLINK: "ret_unlink",
         REQUEST_LIST: "list", REPLY_LIST: "ret_list", REQUEST_IMPORT: "import", REPLY_IMPORT: "ret_import"}
NO_PACKETS, HEADER = 0xFFFF_FFFF, 48
ECONNRESET = -104
ETHERNET = 1
FIN, SYN, RST, PUSH, ACK = 1, 2, 4, 8, 16
# Of a segment that is written.
MOST = 60000


class Wrong(Exception):
    """Something isn't as the protocol has it."""


# ---- the file

def packets(data):
    """Number, client's port, whether it's the client's, sequence number, flags and payload of each TCP segment."""
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}.get(data[:4])
    if not order or struct.unpack(order + "I", data[20:24])[0] != ETHERNET:
        raise Wrong("this isn't a capture of Ethernet in tcpdump's format")
    position, number = 24, 0
    while position < len(data):
        captured, length = struct.unpack_from(order + "II", data, position + 8)
        frame = data[position + 16:position + 16 + captured]
        position, number = position + 16 + captured, number + 1
        if captured != length or len(frame) != length:
            raise Wrong(f"packet {number} isn't in the capture whole")
        if frame[12:14] == b"\x08\x00" and frame[23] == 6:
            yield number, segment(frame[14:])


def segment(packet):
    header = (packet[0] & 15) * 4
    total = struct.unpack_from(">H", packet, 2)[0]
    tcp = packet[header:total]
    source, target, sequence, _, words = struct.unpack_from(">HHIIH", tcp)
    return packet[12:16], source, packet[16:20], target, sequence, words & 0x3F, tcp[(words >> 12) * 4:]


class Stream:
    """One way of a connection: its bytes, and by which packet each piece of them was there."""

    def __init__(self):
        self.first, self.data, self.early, self.marks = None, bytearray(), {}, []
        # The number of the packet that ended it.
        self.ended, self.is_reset = None, False

    def take(self, number, sequence, flags, payload):
        if flags & SYN:
            self.first = (sequence + 1) & 0xFFFF_FFFF
            return
        if flags & (FIN | RST) and self.ended is None:
            self.ended, self.is_reset = number, bool(flags & RST)
        if not payload or self.first is None:
            return
        self.early[(sequence - self.first) & 0xFFFF_FFFF] = payload
        for offset in sorted(self.early):
            if offset > len(self.data):
                break
            piece = self.early.pop(offset)[len(self.data) - offset:]
            self.data += piece
            self.marks.append((len(self.data), number))


class Connection:
    def __init__(self):
        self.client, self.server = Stream(), Stream()


def connections(data, port):
    """In the order of their beginnings."""
    found, last = {}, []
    for number, (source, source_port, target, target_port, sequence, flags, payload) in packets(data):
        is_client = target_port == port
        if not is_client and source_port != port:
            continue
        key = (source, source_port) if is_client else (target, target_port)
        if is_client and flags & SYN:
            found[key] = Connection()
            last.append(found[key])
        if key in found:
            way = found[key].client if is_client else found[key].server
            way.take(number, sequence, flags, payload)
    for connection in last:
        for stream in (connection.client, connection.server):
            if stream.early:
                raise Wrong("the capture lacks some of a stream")
    return last


# ---- messages

# `packet` is the number of the one by which it was there whole.
Message = collections.namedtuple("Message", "kind seqnum status target is_in data packet")


class Reader:
    """Takes messages from a stream. What ends before it's whole is left, in `rest`."""

    def __init__(self, stream):
        self.stream, self.position = stream, 0

    @property
    def rest(self):
        return len(self.stream.data) - self.position

    def number(self, offset, size=4, signed=False):
        start = self.position + offset
        return int.from_bytes(self.stream.data[start:start + size], "big", signed=signed)

    def message(self, length, kind, seqnum=0, status=0, target=0, is_in=False):
        """None where it isn't whole."""
        if self.rest < length:
            return None
        end = self.position + length
        data = bytes(self.stream.data[self.position:end])
        packet = next(number for mark, number in self.stream.marks if mark >= end)
        self.position = end
        return Message(kind, seqnum, status, target, is_in, data, packet)

    def head(self, kinds):
        if self.rest < 8:
            return None
        kind = self.number(0)
        if kind not in kinds:
            raise Wrong(f"version and code {kind:#x}")
        return kind

    def request(self):
        kind = self.head((REQUEST_LIST, REQUEST_IMPORT))
        return kind and self.message(8 if kind == REQUEST_LIST else 40, kind)

    def answer(self):
        kind = self.head((REPLY_LIST, REPLY_IMPORT))
        if kind is None:
            return None
        status = self.number(4)
        if kind == REPLY_IMPORT:
            return self.message(8 if status else 320, kind, status=status)
        length = 12
        for _ in range(self.number(8)):
            length += 312 + 4 * self.number(length + 311, 1)
        return self.message(length, kind, status=status)

    def command(self):
        if self.rest < HEADER:
            return None
        kind, seqnum = self.number(0), self.number(4)
        if kind == UNLINK:
            return self.message(HEADER, kind, seqnum, target=self.number(20))
        direction, length, count = self.number(12), self.number(24, signed=True), self.number(32)
        count = 0 if count == NO_PACKETS else count
        if kind != SUBMIT or direction > 1 or length < 0 or count > 1024:
            raise Wrong(f"command {kind}, direction {direction}, {length} bytes, {count} packets")
        return self.message(HEADER + (0 if direction else length) + 16 * count, kind, seqnum, is_in=direction == 1)

    def reply(self, is_in):
        """`is_in` says which way the data of a seqnum go."""
        if self.rest < HEADER:
            return None
        kind, seqnum, status = self.number(0), self.number(4), self.number(20, signed=True)
        if kind not in (RET_SUBMIT, RET_UNLINK):
            raise Wrong(f"a reply of the kind {kind}")
        if self.stream.data[self.position + 8:self.position + 20] != bytes(12):
            raise Wrong(f"reply {seqnum} says a device, a direction or an endpoint")
        if kind == RET_UNLINK:
            return self.message(HEADER, kind, seqnum, status)
        length, count = self.number(24, signed=True), self.number(32)
        count = 0 if count == NO_PACKETS else count
        if length < 0 or count > 1024:
            raise Wrong(f"reply {seqnum} of {length} bytes and {count} packets")
        return self.message(HEADER + (length if is_in(seqnum) else 0) + 16 * count, kind, seqnum, status)


class Conversation:
    """The messages of a connection, in the order in which they were there; their pairs are checked on the way."""

    def __init__(self, connection):
        self.connection, self.messages = connection, []
        self.broken = None
        # What the client has said, each with its answer.
        self.exchanges = []
        # Those without one by seqnum: SUBMITs and UNLINKs.
        self.submits, self.unlinks = {}, {}
        self.directions, self.device = {}, None
        self.client, self.server = Reader(connection.client), Reader(connection.server)
        for message in self.said():
            self.until(message.packet)
            self.broken = self.broken or self.rule_broken_by(message)
            if self.broken:
                break
            self.note(message)
        self.until(None)
        self.finish()

    def said(self):
        """What the client says, up to where it breaks a rule."""
        try:
            message = self.client.request()
            while message:
                yield message
                message = self.client.command() if message.kind in (REQUEST_IMPORT, SUBMIT, UNLINK) else None
        except Wrong as wrong:
            self.broken = str(wrong)

    def until(self, packet):
        """Takes what vusbd has said before that packet; None: all of it."""
        while True:
            position = self.server.position
            if any(one.kind == REPLY_IMPORT for one in self.messages):
                message = self.server.reply(lambda seqnum: self.directions.get(seqnum, False))
            else:
                message = self.server.answer()
            if message is None:
                return
            if packet is not None and message.packet >= packet:
                self.server.position = position
                return
            self.note(message)

    def rule_broken_by(self, message):
        """By a command that is well formed."""
        if message.kind in (SUBMIT, UNLINK) and message.data[8:12] != self.device:
            return f"command {message.seqnum} of another device"
        if message.kind == SUBMIT and message.seqnum in self.submits:
            return f"the seqnum {message.seqnum} twice"
        return None

    def note(self, message):
        kind = message.kind
        if kind == REPLY_IMPORT and message.status == 0:
            # The lower halves of bus and device number.
            self.device = message.data[298:300] + message.data[302:304]
        self.messages.append(message)
        if kind in (RET_SUBMIT, RET_UNLINK):
            self.answered(message)
        elif kind in (REPLY_LIST, REPLY_IMPORT):
            self.exchanges[-1].append(message)
        else:
            self.asked(message)

    def asked(self, message):
        exchange = [message]
        self.exchanges.append(exchange)
        if message.kind == SUBMIT:
            self.submits[message.seqnum] = exchange
            self.directions[message.seqnum] = message.is_in
        elif message.kind == UNLINK:
            self.unlinks.setdefault(message.seqnum, []).append(exchange)

    def answered(self, message):
        if message.kind == RET_SUBMIT:
            exchange = self.submits.pop(message.seqnum, None)
            if exchange is None:
                raise Wrong(f"RET_SUBMIT {message.seqnum} for no SUBMIT, in packet {message.packet}")
            exchange.append(message)
            return
        if not self.unlinks.get(message.seqnum):
            raise Wrong(f"RET_UNLINK {message.seqnum} for no UNLINK, in packet {message.packet}")
        exchange = self.unlinks[message.seqnum].pop(0)
        exchange.append(message)
        self.unlinked(message, exchange[0].target)

    def unlinked(self, message, target):
        if message.status == ECONNRESET:
            if self.submits.pop(target, None) is None:
                raise Wrong(f"RET_UNLINK {message.seqnum} cancels {target}, which isn't in flight")
        elif message.status != 0:
            raise Wrong(f"RET_UNLINK {message.seqnum} with the status {message.status}")
        elif target in self.submits and target not in [one[0].target for ones in self.unlinks.values() for one in ones]:
            # U6 of USBIP.md: only where another UNLINK of it waits yet.
            raise Wrong(f"RET_UNLINK {message.seqnum} says that {target} has ended, which it hasn't")

    def finish(self):
        if self.server.rest:
            raise Wrong(f"{self.server.rest} bytes behind vusbd's last message")
        if self.unanswered and not self.is_cut:
            raise Wrong(f"no answer for {self.unanswered} commands, and the client hasn't ended the connection")

    @property
    def unanswered(self):
        return len(self.submits) + sum(map(len, self.unlinks.values()))

    @property
    def is_cut(self):
        """The client broke a rule, or ended the connection before vusbd did."""
        client, server = self.connection.client.ended, self.connection.server.ended
        return bool(self.broken) or client is not None and (server is None or client < server)

    @property
    def in_pairs(self):
        return [message for exchange in self.exchanges for message in exchange]

    @property
    def is_for_tshark(self):
        return not any(one.kind in (SUBMIT, RET_SUBMIT) and one.data[32:36] == b"\xff" * 4 for one in self.messages)


# ---- tshark

def written(conversations, port):
    """A capture with one message a segment, larger ones in several; each answer behind its command."""
    frames = [struct.pack("<IHHiIII", 0xA1B2_C3D4, 2, 4, 0, 0, 1 << 18, ETHERNET)]

    def add(is_server, client_port, sequence, acknowledged, flags, data=b""):
        ports = (port, client_port) if is_server else (client_port, port)
        tcp = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0) + data
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
        frame = bytes(12) + b"\x08\x00" + ip + tcp
        frames.append(struct.pack("<IIII", *divmod(len(frames), 1_000_000), len(frame), len(frame)) + frame)

    for index, conversation in enumerate(conversations):
        client_port = 10000 + index
        add(False, client_port, 0, 0, SYN)
        add(True, client_port, 0, 1, SYN | ACK)
        add(False, client_port, 1, 1, ACK)
        position = [1, 1]
        for message in conversation.in_pairs:
            is_server = message.kind in (RET_SUBMIT, RET_UNLINK, REPLY_LIST, REPLY_IMPORT)
            for start in range(0, len(message.data), MOST):
                piece = message.data[start:start + MOST]
                add(is_server, client_port, position[is_server], position[not is_server], PUSH | ACK, piece)
                position[is_server] += len(piece)
        add(False, client_port, position[0], position[1], FIN | ACK)
        add(True, client_port, position[1], position[0] + 1, FIN | ACK)
    return b"".join(frames)


def ask_tshark(file, port):
    """Of each message what tshark takes it for, in their order; raises Wrong for what it finds wrong."""
    # What it thinks of a descriptor of which a client has asked for one byte is no matter here.
    fields = ["frame.number", "usbip.urb", "usbip.operation", "usbip.sequence_no", "usbip.status", "_ws.malformed",
              "usbip.unsupported_version", "_ws.expert.message"]
    command = ["tshark", "-r", str(file), "-d", f"tcp.port=={port},usbip", "-T", "fields", "-E", "separator=/t"]
    command += [word for field in fields for word in ("-e", field)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Wrong(f"tshark ended with {done.returncode}: {done.stderr}")
    for line in done.stdout.splitlines():
        number, urb, operation, seqnum, status, malformed, unsupported, message = line.split("\t")
        if malformed or unsupported:
            raise Wrong(f"tshark says of packet {number} as it was written: {message}")
        if "," in urb + operation:
            raise Wrong(f"tshark finds several messages in packet {number}, which is one as it was written")
        if urb or operation:
            # The target of an UNLINK has the same name.
            kind = int(urb, 0) if urb else 0x0111_0000 | int(operation, 0)
            yield kind, int(seqnum.split(",")[0]) if seqnum else 0, int(status) if status else 0


def compare(conversations, port):
    messages = [one for conversation in conversations for one in conversation.in_pairs]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "messages.pcap")
        file.write_bytes(written(conversations, port))
        found = list(ask_tshark(file, port))
    if len(found) != len(messages):
        raise Wrong(f"tshark finds {len(found)} messages, and not {len(messages)}")
    for message, (kind, seqnum, status) in zip(messages, found):
        if (message.kind, message.seqnum, message.status) != (kind, seqnum, status):
            raise Wrong(f"tshark takes {message[:4]} for {kind}, {seqnum}, {status}")


def check(file, port):
    """What came how often; raises Wrong."""
    conversations = [Conversation(one) for one in connections(pathlib.Path(file).read_bytes(), port)]
    compare([one for one in conversations if one.is_for_tshark], port)
    counts = collections.Counter()
    for conversation in conversations:
        counts["connections"] += 1
        counts["broken"] += bool(conversation.broken)
        counts["unanswered"] += conversation.unanswered
        counts["without tshark"] += not conversation.is_for_tshark
        for message in conversation.messages:
            counts[NAMES[message.kind]] += 1
            counts[NAMES[message.kind] + " with an error"] += message.status != 0
            counts["isochronous"] += message.kind == RET_SUBMIT and message.data[32:36] not in (bytes(4), b"\xff" * 4)
    return +counts


def main(file, port, *expected):
    counts = check(file, int(port))
    print(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    missing = [name for name in expected if not counts[name]]
    if missing:
        raise Wrong(f"nothing of this was seen: {', '.join(missing)}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Wrong as wrong:
        sys.exit(f"{sys.argv[1]}: {wrong}")
