// SPDX-License-Identifier: Apache-2.0

/// What runs in a guest by `sh -c`: one script where twenty commands would be as many round trips. They work with the
/// shells bash, dash and busybox's and with the programs of a busybox or of a full distribution. Values come as
/// positional parameters, never as text of the script.
///
/// Each answers in lines `KEYWORD value`, between a first line with its name and a last one `end`, so that an answer
/// that was cut off is known as such. What a line says is believed as little as anything else from a guest.
///
/// Files are looked for below `$1`, which is empty but in tests.
enum GuestScript {
    static let head = """
        PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin
        LC_ALL=C
        export PATH LC_ALL
        root=$1
        say() { printf '%s %s\\n' "$1" "$2"; }

        """

    /// Which kernel it is, and which of the modules that are brought into guests are loaded. $release is set then.
    static let basics = """
        firstline() {
            line=
            if [ -r "$2" ]; then IFS= read -r line <"$2" || :; say "$1" "$line"; fi
        }
        release=$(uname -r)
        say release "$release"
        say machine "$(uname -m)"
        say uid "$(id -u)"
        firstline boot "$root/proc/sys/kernel/random/boot_id"
        if [ -e "$root/proc/modules" ]; then
            while read -r name size count users state rest; do
                case $name in
                vusb_channel | vusb_hcd | usbip_core | vhci_hcd) say module "$name $count $users $state" ;;
                esac
            done <"$root/proc/modules"
        else
            say unloadable 1
        fi

        """

    /// Facts about the guest's kernel. $2: where /vusb is to be mounted. $3: `brief` leaves out what only loading
    /// needs.
    static let facts =
        head + """
            echo vusb-facts-1

            """ + basics + """
            for name in vusb_channel vusb_hcd; do
                firstline "version.$name" "$root/sys/module/$name/version"
                firstline "srcversion.$name" "$root/sys/module/$name/srcversion"
            done
            firstline path "$root/sys/module/vusb_hcd/parameters/path"
            mount=
            if [ -r "$root/proc/mounts" ]; then
                while read -r source point type rest; do
                    if [ "$point" = "$2" ]; then mount="$type $source"; fi
                done <"$root/proc/mounts"
            fi
            if [ -n "$mount" ]; then say mount "$mount"; fi
            if [ "$3" = brief ]; then say end 1; exit 0; fi

            firstline enforce "$root/sys/module/module/parameters/sig_enforce"
            firstline lockdown "$root/sys/kernel/security/lockdown"
            firstline disabled "$root/proc/sys/kernel/modules_disabled"
            if [ -d "$root/sys/module" ]; then say present "$(cd "$root/sys/module" && echo *)"; fi
            tree=$root/lib/modules/$release
            [ -d "$tree" ] || tree=$root/run/booted-system/kernel-modules/lib/modules/$release
            if [ -d "$root/sys/module/vusb_hcd" ] && ! [ -e "$root/sys/module/vusb_hcd/initstate" ]; then
                say builtin 1
            elif grep -q '/vusb_hcd\\.ko$' "$tree/modules.builtin" 2>/dev/null; then
                say builtin 1
            fi
            sample=
            if [ -r "$tree/modules.dep" ]; then
                say own "$(sed -n '/^[^:]*vusb_hcd\\.ko[^:]*:/{s/:.*//p;q;}' "$tree/modules.dep")"
                sample=$(sed -n '/^kernel\\//{s/:.*//p;q;}' "$tree/modules.dep")
                if [ -n "$sample" ]; then sample=$tree/$sample; fi
            fi
            [ -f "$sample" ] || sample=$(find "$tree/" -name '*.ko*' 2>/dev/null | head -n 1)
            unpack=
            case $sample in
            *.ko) unpack=cat ;;
            *.ko.xz) unpack='xz -dc' ;;
            *.ko.zst) unpack='zstd -dc' ;;
            *.ko.gz) unpack='gzip -dc' ;;
            esac
            vermagic=
            if [ -n "$unpack" ]; then
                vermagic=$($unpack <"$sample" 2>/dev/null | tr '\\000' '\\n' | sed -n 's/^vermagic=//p' | head -n 1)
                [ -n "$vermagic" ] || vermagic=$(modinfo -F vermagic "$sample" 2>/dev/null | head -n 1)
            fi
            say sample "$sample"
            say vermagic "$vermagic"
            say end 1
            """

    /// Mounts the guest's directory. $2: `virtiofs` or `9p`, $3: the mount tag, $4: where. Ends with 3 where that can't
    /// be made, with mount(8)'s words where it fails.
    static let mount =
        head + """
            mkdir -p "$4" || exit 3
            case $2 in
            virtiofs)
                modprobe virtiofs 2>/dev/null
                mount -t virtiofs "$3" "$4"
                ;;
            9p)
                modprobe 9pnet_virtio 2>/dev/null
                modprobe 9p 2>/dev/null
                mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=262144 "$3" "$4"
                ;;
            *) exit 3 ;;
            esac || exit 4
            """

    /// $2: where.
    static let unmount = head + "umount \"$2\"\n"

    /// Loads what the modules depend on and looks for the channel. $2: the channel's file, then names of modules.
    /// Ends with 3 and the name of a module that can't be loaded, with 4 where there is no such file, with 5 where
    /// there is a directory `guests` beside it.
    static let prepare =
        head + """
            channel=$2
            shift 2
            tree=$root/lib/modules/$(uname -r)
            for name in "$@"; do
                modprobe "$name" && continue
                pattern=$(printf '%s\\n' "$name" | sed 's/[-_]/[-_]/g')
                grep -q "/$pattern\\.ko\\$" "$tree/modules.builtin" 2>/dev/null && continue
                say failed "$name"
                exit 3
            done
            [ -f "$root$channel" ] && exit 0
            [ -d "$root${channel%/*}/guests" ] && exit 5
            exit 4
            """

    /// The last things that the kernel's log says of our modules.
    static let kernelLog = head + "dmesg 2>/dev/null | sed -n '/vusb_/p' | tail -n 3\n"
}
