// SPDX-License-Identifier: Apache-2.0

extension GuestScript {
    /// Who uses what is behind the module's root hubs. `ls -l` gives all links of a directory by one process, where
    /// readlink would take one each.
    ///
    /// - `node b|c MAJOR:MINOR DEVNAME SYSPATH`, for each device node
    /// - `mount DEVNAME` and a line of mountinfo, `swap DEVNAME`, `holder DEVNAME NAME`
    /// - `open DEVNAME PID COMMAND`
    /// - `up NAME SYSPATH`, for each network interface that is up
    static let users = """
        PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin
        LC_ALL=C
        export PATH LC_ALL
        root=$1
        say() { printf '%s %s\\n' "$1" "$2"; }
        echo vusb-users-1
        names=
        blocks=
        numbers=
        for kind in block char; do
            links=$(ls -l "$root/sys/dev/$kind" 2>/dev/null |
                sed -n 's/^.* \\([0-9]*:[0-9]*\\) -> .*\\(\\/devices\\/.*\\/vusb_hcd.*\\/usb[0-9].*\\)$/\\1 \\2/p')
            while read -r number path; do
                [ -n "$path" ] || continue
                name=
                while IFS= read -r line; do
                    case $line in DEVNAME=*) name=${line#DEVNAME=} ;; esac
                done <"$root/sys$path/uevent"
                [ -n "$name" ] || continue
                say node "${kind%"${kind#?}"} $number $name $path"
                names="$names /dev/$name "
                [ "$kind" = block ] || continue
                blocks="$blocks /dev/$name "
                numbers="$numbers $number=$name "
                for holder in "$root/sys$path/holders"/*; do
                    [ -e "$holder" ] || continue
                    title=
                    if [ -r "$holder/dm/name" ]; then IFS= read -r title <"$holder/dm/name" || :; fi
                    say holder "$name ${holder##*/} $title"
                done
            done <<EOF
        $links
        EOF
        done
        if [ -n "$blocks" ]; then
            while read -r id parent number rest; do
                line="$id $parent $number $rest"
                case $numbers in
                *" $number="*)
                    name=${numbers#*" $number="}
                    say mount "${name%% *} $line"
                    ;;
                *)
                    # Btrfs gives its mounts numbers of their own; the source tells then.
                    source=${line##* - }
                    source=${source#* }
                    source=${source%% *}
                    case $blocks in *" $source "*) say mount "${source#/dev/} $line" ;; esac
                    ;;
                esac
            done <"$root/proc/self/mountinfo"
            while read -r file rest; do
                case $blocks in *" $file "*) say swap "${file#/dev/}" ;; esac
            done <"$root/proc/swaps"
        fi
        if [ -n "$names" ]; then
            process=
            # A glob of its own for one process would print no heading.
            ls -l "$root"/proc/[0-9]*/fd "$root/dev/null" 2>/dev/null | while IFS= read -r line; do
                case $line in
                */fd:)
                    process=${line%/fd:}
                    ;;
                *' -> /dev/'*)
                    target=${line##* -> }
                    case $names in
                    *" $target "*)
                        command=
                        IFS= read -r command <"$process/comm" || :
                        say open "${target#/dev/} ${process##*/} $command"
                        ;;
                    esac
                    ;;
                esac
            done
        fi
        ls -l "$root/sys/class/net" 2>/dev/null |
            sed -n 's/^.* \\([^ ]*\\) -> .*\\(\\/devices\\/.*\\/vusb_hcd.*\\/usb[0-9].*\\)$/\\1 \\2/p' |
            while read -r name path; do
                state=
                IFS= read -r state <"$root/sys$path/flags" || :
                # IFF_UP is the lowest bit.
                case $state in *[13579bdfBDF]) say up "$name $path" ;; esac
            done
        say end 1
        """

    /// `user PID COMMAND`, once for each link of a process to something at or below $2, where a file system is mounted.
    /// Only the links are read, so a silent share keeps nobody waiting.
    static let mountUsers = """
        PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin
        LC_ALL=C
        export PATH LC_ALL
        root=$1
        say() { printf '%s %s\\n' "$1" "$2"; }
        echo vusb-mount-users-1
        process=
        # Links come first, then directories, each with a heading.
        ls -l "$root"/proc/[0-9]*/cwd "$root"/proc/[0-9]*/root "$root"/proc/[0-9]*/exe "$root"/proc/[0-9]*/fd \\
            "$root/dev/null" 2>/dev/null | while IFS= read -r line; do
            case $line in
            */fd:)
                process=${line%/fd:}
                ;;
            *" -> $2" | *" -> $2/"*)
                link=${line%% -> *}
                link=${link##* }
                case $link in */*) user=${link%/*} ;; *) user=$process ;; esac
                command=
                IFS= read -r command <"$user/comm" || :
                say user "${user##*/} $command"
                ;;
            esac
        done
        say end 1
        """
}
