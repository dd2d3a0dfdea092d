/* SPDX-License-Identifier: ((GPL-2.0-only WITH Linux-syscall-note) OR Apache-2.0) */
/*
 * vusb_abi.h: what the module in a guest and vusbd say to each other over the file hcd. The one definition of it: the
 * module includes it, and so does vusbd. Channel.md (Sources/VUSBFileSystem/VUSBFileSystem.docc) says what may follow
 * what.
 *
 * Both directions are streams of records; where a read or a write begins and ends means nothing, so that any file
 * system may cut them. A record is a struct vusb_record and perhaps a payload; the next one begins at a multiple of
 * VUSB_ALIGN bytes. Numbers are little-endian, reserved fields and padding are zero and ignored.
 *
 * Neither side believes the other: a record that breaks a rule ends the channel, and only the channel.
 */
#ifndef VUSB_ABI_H
#define VUSB_ABI_H

#include <linux/types.h>

#define VUSB_ABI_MAGIC		0x42535556	/* "VUSB" */
#define VUSB_ABI_VERSION	1

#define VUSB_ALIGN		8
/* Bytes of one URB's data at most; a peer may say less in its hello. */
#define VUSB_MAX_TRANSFER	(1 << 20)
#define VUSB_MAX_ISO_PACKETS	1024
/* URBs that a guest may have submitted at once; a host may say less in its hello. */
#define VUSB_MAX_URBS		1024
/* Bytes of a peer's name in its hello. */
#define VUSB_MAX_NAME		64

/* Types: who sends them, what device, id and payload are. */
enum vusb_type {
	/* guest, then host: the first record each way. Payload: name and version of the sender, UTF-8. */
	VUSB_HELLO = 1,

	/* host: a device was plugged in. device: its handle, never used twice in a channel. */
	VUSB_ADDED = 2,
	/* host: a device goes, see enum vusb_removal; may be said again with a harder one. */
	VUSB_REMOVE = 3,
	/* guest: it has let go of the device, nothing more comes for it; the answer to VUSB_REMOVE. */
	VUSB_REMOVED = 4,

	/* guest: a URB. id: see VUSB_ID_SLOT. Payload: packet table if isochronous, then the data if OUT. */
	VUSB_SUBMIT = 5,
	/* host: the end of a URB, exactly one for each. Payload: packet table if isochronous, then the data if IN. */
	VUSB_COMPLETE = 6,
	/* guest: the URB with this id is to end soon; it still completes. One that has completed is no error. */
	VUSB_CANCEL = 7,

	/* guest: reset the device's port; its URBs end. id: the guest's own, one at a time for a device. */
	VUSB_RESET = 8,
	/* host: the answer, with that id and a result. */
	VUSB_RESET_DONE = 9,

	/* host: submit nothing more for the device (0: for any) until VUSB_RESUME; hold it back. id: the host's own. */
	VUSB_QUIESCE = 10,
	/* guest: the answer, with that id; no submit for it follows. */
	VUSB_QUIESCED = 11,
	/* host: go on. id: the host's own. */
	VUSB_RESUME = 12,
	/* guest: the answer, with that id. */
	VUSB_RESUMED = 13,

	/* guest: how long a read may wait from now on. */
	VUSB_WAIT = 14,
	/* guest: say VUSB_PONG with that id at once. Tells whether the exporter serves two requests at a time. */
	VUSB_PING = 15,
	/* host */
	VUSB_PONG = 16,
	/* guest: the module goes; nothing more comes. The host answers all reads at once from here on. */
	VUSB_BYE = 17,
};

/* Features, said in hello; what both have is in force. */
#define VUSB_FEATURE_STREAMS	(1 << 0)	/* bulk streams */
#define VUSB_FEATURE_ISO	(1 << 1)	/* isochronous transfers */

/*
 * A URB's id: the low 16 bits are its slot, below the hello's urbs and free at that time; the rest is a generation, so
 * that a late cancel names nothing else.
 */
#define VUSB_ID_SLOT(id)	((id) & 0xffff)

enum vusb_removal {
	/* The device is there yet: have the drivers let go of it, then unplug it. */
	VUSB_REMOVE_ORDERLY = 0,
	/* It is gone, or is to be. */
	VUSB_REMOVE_NOW = 1,
};

/* As enum usb_device_speed of linux/usb/ch9.h. */
enum vusb_speed {
	VUSB_SPEED_LOW = 1,
	VUSB_SPEED_FULL = 2,
	VUSB_SPEED_HIGH = 3,
	VUSB_SPEED_SUPER = 5,
	VUSB_SPEED_SUPER_PLUS = 6,
};

/* As bmAttributes of an endpoint descriptor. */
enum vusb_transfer {
	VUSB_CONTROL = 0,
	VUSB_ISOCHRONOUS = 1,
	VUSB_BULK = 2,
	VUSB_INTERRUPT = 3,
};

#define VUSB_URB_SHORT_NOT_OK	(1 << 0)	/* URB_SHORT_NOT_OK */
#define VUSB_URB_ZERO_PACKET	(1 << 1)	/* URB_ZERO_PACKET */

/* The guest sets it in VUSB_WAIT where its exporter serves one request at a time. */
#define VUSB_WAIT_ONE_AT_A_TIME	(1 << 0)

/*
 * VUSB_HELLO. The host's urbs and bytes are credits for the whole channel: so many URBs, of so many bytes by the sum of
 * their lengths, may be submitted and not completed. The guest's are zero.
 */
struct vusb_hello {
	__le32 magic;
	__le16 version;		/* the highest that the sender knows; the lower of both is in force */
	__le16 ports;		/* guest: of each of its two root hubs; host: 0 */
	__le32 features;
	__le32 urbs;
	__le32 bytes;
	__le32 max_transfer;	/* bytes */
	__le32 wait;		/* guest: as in vusb_wait; host: the longest that it waits */
	__le32 reserved;
};

/* VUSB_ADDED */
struct vusb_added {
	__u8 speed;		/* enum vusb_speed */
	__u8 reserved[3];
	__le32 port;		/* root hub port from 1 that the host would like; 0: any. Taken ones don't matter. */
	__u8 reserved2[24];
};

/* VUSB_REMOVE */
struct vusb_remove {
	__u8 removal;		/* enum vusb_removal */
	__u8 reserved[31];
};

/* VUSB_SUBMIT */
struct vusb_submit {
	__u8 endpoint;		/* bEndpointAddress; a control endpoint's direction bit is that of the setup packet */
	__u8 transfer;		/* enum vusb_transfer */
	__le16 flags;		/* VUSB_URB_* */
	__le32 length;		/* bytes of data, payload or not; isochronous: the sum of the packets' */
	__le16 stream;		/* bulk stream, 0: none */
	__le16 packets;		/* isochronous only */
	__le32 interval;	/* as in struct urb */
	__u8 setup[8];		/* control only */
	__u8 reserved[8];
};

/* VUSB_COMPLETE */
struct vusb_complete {
	__le32 status;		/* 0 or a negative Linux errno, as urb->status */
	__le32 actual_length;	/* bytes moved; isochronous IN: the sum of the packets', without gaps */
	__le32 start_frame;	/* isochronous only */
	__le16 packets;		/* isochronous only: as submitted */
	__le16 error_count;	/* isochronous only: packets that failed */
	__u8 reserved[16];
};

/* VUSB_RESET_DONE */
struct vusb_result {
	__le32 status;		/* 0 or a negative Linux errno; -ENODEV: the device is gone, VUSB_REMOVE follows */
	__u8 reserved[28];
};

/* VUSB_WAIT */
struct vusb_wait {
	__le32 wait;		/* microseconds; a read with nothing to say is answered with no bytes after that */
	__le32 flags;		/* VUSB_WAIT_* */
	__u8 reserved[24];
};

struct vusb_record {
	__le32 size;		/* bytes of the record with its payload, without padding */
	__le16 type;		/* enum vusb_type */
	__le16 device;		/* handle, 0: none */
	__le64 id;
	union {
		struct vusb_hello hello;
		struct vusb_added added;
		struct vusb_remove remove;
		struct vusb_submit submit;
		struct vusb_complete complete;
		struct vusb_result result;
		struct vusb_wait wait;
		__u8 raw[32];
	};
};

/* An entry of a packet table. */
struct vusb_iso_packet {
	__le32 length;		/* asked for, or to be sent */
	__le32 actual_length;	/* in VUSB_COMPLETE */
	__le32 status;		/* in VUSB_COMPLETE, as vusb_complete's */
};

#endif
