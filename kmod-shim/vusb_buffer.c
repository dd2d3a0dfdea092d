// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers that file systems take hold of by the page, and this module by the byte.
 */
#include <linux/gfp.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#include "vusb_io.h"

/* File systems take a segment at a time: the fewer the better, but none that is hard to get. */
#define VUSB_BUFFER_ORDER	4

void vusb_buffer_free(struct vusb_buffer *buffer)
{
	unsigned int i;

	vunmap(buffer->bytes);
	for (i = 0; i < buffer->count; i++)
		__free_pages(buffer->segments[i].bv_page, get_order(buffer->segments[i].bv_len));
}

/* A compound page: file systems take references to the pages in it. */
static struct page *vusb_buffer_page(unsigned int *order)
{
	struct page *page;

	for (; *order; (*order)--) {
		page = alloc_pages(GFP_KERNEL | __GFP_COMP | __GFP_NOWARN | __GFP_NORETRY, *order);
		if (page)
			return page;
	}
	return alloc_page(GFP_KERNEL);
}

int vusb_buffer_alloc(struct vusb_buffer *buffer)
{
	unsigned int order = VUSB_BUFFER_ORDER, done = 0, i;
	struct page *page;

	while (done < VUSB_BUFFER_PAGES) {
		page = vusb_buffer_page(&order);
		if (!page)
			goto free;
		buffer->segments[buffer->count].bv_page = page;
		buffer->segments[buffer->count].bv_offset = 0;
		buffer->segments[buffer->count].bv_len = PAGE_SIZE << order;
		buffer->count++;
		for (i = 0; i < 1U << order; i++)
			buffer->pages[done++] = page + i;
	}
	buffer->bytes = vmap(buffer->pages, VUSB_BUFFER_PAGES, VM_MAP, PAGE_KERNEL);
	if (!buffer->bytes)
		goto free;
	return 0;
free:
	vusb_buffer_free(buffer);
	return -ENOMEM;
}

void vusb_buffer_iter(struct vusb_buffer *buffer, struct iov_iter *iter, unsigned int direction,
		      size_t count)
{
	iov_iter_bvec(iter, direction, buffer->segments, buffer->count, count);
}
