// SPDX-License-Identifier: Apache-2.0

#ifndef CTESTSUPPORT_H
#define CTESTSUPPORT_H

#endif
