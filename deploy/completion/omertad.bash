# bash completion for omertad
_omertad() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=serve words
    [[ $COMP_CWORD -gt 1 && ${COMP_WORDS[1]} != -* ]] && command=${COMP_WORDS[1]}
    case $previous in
        --config | --listen | --peer | --report)
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        --data | --runtime | --images)
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            return
            ;;
    esac
    case $previous in
        --scope) words="read lease admin" ;;
        --mode) words="filtered conntrack sampled" ;;
        --on-violation) words="drop terminate" ;;
        --framing) words="dgram stream" ;;
        --fd | --busy-poll-us | --sampling-rate | --allow | --limit-* | --guest-mac | --guest-ip | --gateway-ip | --prefix | --mtu)
            return
            ;;
        *)
            case $command in
                serve) words="--config --data --runtime --images --listen --allow-root --handover --help" ;;
                doctor) words="--json --config --data --runtime --images --listen --help" ;;
                run)
                    if [[ $current != -* ]]; then
                        mapfile -t COMPREPLY < <(compgen -f -- "$current")
                        return
                    fi
                    words="--json --config --data --runtime --help"
                    ;;
                token) words="list add revoke --scope --json --config --data --help" ;;
                image) words="list show verify --images --config --data --help" ;;
                nat) words="--listen --peer --fd --framing --busy-poll-us --mode --sampling-rate --on-violation --allow
                    --require-wireguard --limit-egress-bits --limit-ingress-bits --limit-egress-packets
                    --limit-ingress-packets --guest-mac --guest-ip --gateway-ip --prefix --mtu --report --help" ;;
                *) words="" ;;
            esac
            [[ $COMP_CWORD -eq 1 ]] && words+=" serve doctor run image token nat --version"
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _omertad omertad
