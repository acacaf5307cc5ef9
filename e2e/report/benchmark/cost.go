package benchmark

// Cost is what one call of a chain asks of the machine: medians of traced calls, with all programs that the plugins
// start.
type Cost struct {
	Chain string `json:"chain"`
	Verb  string `json:"verb"`
	// Callers is how many calls were made at the same time, of which one was traced; with several of them only Shares
	// are known.
	Callers int `json:"callers"`
	// Calls is how many were traced.
	Calls int `json:"calls"`
	// SystemCalls counts all of them, NetlinkSent the netlink messages that were sent, DumpBytes the bytes that netlink
	// answered to requests for whole tables, Programs the programs that were started, the plugins of the chain
	// included.
	SystemCalls int   `json:"systemCalls"`
	NetlinkSent int   `json:"netlinkSent"`
	DumpBytes   int64 `json:"dumpBytes"`
	Programs    int   `json:"programs"`
	// PeakBytes is the memory of the largest program at its largest (VmHWM of proc_pid_status(5)).
	PeakBytes int64 `json:"peakBytes"`
	// Shares say where the time of a call goes; they are of a call under the tracer, which takes longer than others.
	Shares []Share `json:"shares"`
}

// Share is the part of a call's time that one kind of work takes.
type Share struct {
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
}

// Traffic is what one kind of traffic reached on one path.
type Traffic struct {
	Chain string `json:"chain"`
	// Path is from where to where, Kind what was sent.
	Path string `json:"path"`
	Kind string `json:"kind"`
	// Rate is in Unit: bits per second, exchanges, connections or packets per second. Repeats is how many times it was
	// measured.
	Rate    Estimate `json:"rate"`
	Unit    string   `json:"unit"`
	Repeats int      `json:"repeats"`
	// P99Seconds is the 99th percentile of the time of an exchange; 0 for other kinds.
	P99Seconds float64 `json:"p99Seconds,omitempty"`
	// Lost is the share of the packets that did not arrive, from 0 to 1; 0 for other kinds than packets.
	Lost float64 `json:"lost,omitempty"`
	// Ratio is the rate's to that of a bare veth pair in the same turn; nil for that pair itself.
	Ratio *Estimate `json:"ratio,omitempty"`
}
