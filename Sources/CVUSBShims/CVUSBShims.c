#include "CVUSBShims.h"
