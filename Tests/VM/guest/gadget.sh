# SPDX-License-Identifier: Apache-2.0
# gadget.sh: USB devices made by the guest's own kernel: configfs gadgets on dummy_hcd. Read by cases that need them.

# gadget_controllers N [super]: N ports, each with its own controller dummy_udc.0 …, high-speed unless said otherwise.
gadget_controllers() {
    modprobe libcomposite
    case ${2:-} in
        super) modprobe dummy_hcd is_high_speed=1 is_super_speed=1 "num=$1" ;;
        *) modprobe dummy_hcd is_high_speed=1 is_super_speed=0 "num=$1" ;;
    esac
    mount -t configfs configfs /sys/kernel/config
}

# gadget_create NAME VID PID SERIAL [MAX-SPEED]: a gadget with one configuration and nothing in it, high-speed unless
# said otherwise.
gadget_create() {
    gadget=/sys/kernel/config/usb_gadget/$1
    mkdir "$gadget" || fail "no gadget $1"
    echo "0x$2" >"$gadget/idVendor"
    echo "0x$3" >"$gadget/idProduct"
    echo 0x0200 >"$gadget/bcdUSB"
    echo "${5:-high-speed}" >"$gadget/max_speed"
    mkdir "$gadget/strings/0x409" "$gadget/configs/c.1"
    echo "$4" >"$gadget/strings/0x409/serialnumber"
    echo "vusb tests" >"$gadget/strings/0x409/manufacturer"
    echo "$1" >"$gadget/strings/0x409/product"
}

# gadget_function NAME FUNCTION [FILE=VALUE…]: adds a function, with its attributes, to the configuration. A value @PATH
# is what is in that file.
gadget_function() {
    gadget=/sys/kernel/config/usb_gadget/$1
    gadget_function_directory=$gadget/functions/$2
    mkdir "$gadget_function_directory" || fail "no function $2"
    shift 2
    for gadget_attribute; do
        case ${gadget_attribute#*=} in
            @*) cat "${gadget_attribute#*=@}" ;;
            *) echo "${gadget_attribute#*=}" ;;
        esac >"$gadget_function_directory/${gadget_attribute%%=*}" || fail "cannot set $gadget_attribute"
    done
    ln -s "$gadget_function_directory" "$gadget/configs/c.1/"
}

# gadget_plug NAME CONTROLLER-NUMBER, gadget_unplug NAME
gadget_plug() { echo "dummy_udc.$2" >"/sys/kernel/config/usb_gadget/$1/UDC" || fail "cannot plug $1 in"; }
gadget_unplug() { echo "" >"/sys/kernel/config/usb_gadget/$1/UDC" || fail "cannot unplug $1"; }
