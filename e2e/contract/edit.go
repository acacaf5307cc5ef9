package contract

// The key that no plugin knows.
const (
	strangeKey   = "cnitestUnknown"
	strangeValue = "value-17"
)

// unknownKey adds a key that no plugin knows to a configuration.
func unknownKey(inv *invocation) { inv.config[strangeKey] = strangeValue }

// keeping returns an edit that tells GC which attachments are valid.
func keeping(pods ...*pod) func(*invocation) {
	list := []map[string]string{}
	for _, p := range pods {
		list = append(list, map[string]string{"containerID": p.id, "ifname": p.ifName})
	}
	return func(inv *invocation) { inv.config["cni.dev/valid-attachments"] = list }
}
