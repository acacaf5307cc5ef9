package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/machinetime"
)

// Protocol is the protocol of a probe, flow or server.
type Protocol string

// The protocols of this package.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	ICMP Protocol = "icmp"
)

// Protocols returns all protocols of probes. Flows and listeners have TCP and UDP.
func Protocols() []Protocol { return []Protocol{TCP, UDP, ICMP} }

const (
	defaultBytes    = 64 << 10
	defaultWithin   = 5 * time.Second
	defaultInterval = 10 * time.Millisecond
	// replyWait is how long one attempt waits for an answer if more attempts may follow. A LAN answers in well under a
	// millisecond; a second leaves room for an overloaded machine.
	replyWait = time.Second
	// retryPause is the time between attempts that fail at once, like a refused connection.
	retryPause = 50 * time.Millisecond
)

// Spec is one question to the network: does this address answer from here?
//
// TCP transfers Bytes in each direction on each connection, verified, and both sides close it. UDP and ICMP require
// that each reply comes from exactly the address that was asked. A TCP or UDP probe needs a Listener of this package at
// the far end.
type Spec struct {
	Protocol Protocol `json:"protocol"`
	// To is the address to ask; an IPv6 link-local one has a zone ("fe80::1%eth0").
	To string `json:"to"`
	// Port is the port to ask; ICMP does not use it.
	Port uint16 `json:"port,omitempty"`
	// From is the source address to use; empty leaves the choice to the kernel.
	From string `json:"from,omitempty"`
	// Via is a broadcast or multicast address to which the requests of UDP go instead of To, through the link Device.
	// Each must be answered from To; other answers do not count.
	Via    string `json:"via,omitempty"`
	Device string `json:"device,omitempty"`
	// Bytes is the number of bytes that TCP transfers in each direction; 0 means 64 KiB.
	Bytes int `json:"bytes,omitempty"`
	// Size is the size in bytes of the whole IP packet of UDP and ICMP; 0 means as small as possible.
	Size int `json:"size,omitempty"`
	// DontFragment keeps this host and every router from fragmenting the requests of UDP and ICMP. The far end decides
	// about replies: probe in both directions.
	DontFragment bool `json:"dontFragment,omitempty"`
	// Count is the number of packets, or TCP connections, of one attempt; 0 means 1. All must be answered.
	Count int `json:"count,omitempty"`
	// Interval is the time between the packets of one attempt; 0 means 10ms.
	Interval time.Duration `json:"interval,omitempty"`
	// Within is how long the probe keeps trying, at least one attempt, in time that the machine gave; 0 means 5s. An
	// attempt that runs at its end is cut off.
	Within time.Duration `json:"within,omitempty"`
	// Attempts limits the number of attempts, which share Within equally. 0 means as many as fit in Within; each of
	// them waits 1s for an answer.
	Attempts int `json:"attempts,omitempty"`
}

// Result is the answer to a Spec.
type Result struct {
	// OK reports whether an attempt succeeded completely.
	OK bool `json:"ok"`
	// Error is the reason of the last attempt that was not cut off by the end of Within, in one line; empty if OK.
	Error string `json:"error,omitempty"`
	// Server is the name of the listener that answered.
	Server string `json:"server,omitempty"`
	// PeerSeen is the source address that the far end saw. ICMP cannot know it.
	PeerSeen string `json:"peerSeen,omitempty"`
	// Answers contains the names of the servers and the source addresses that they saw, each pair once, if the requests
	// of the last attempt had more than one: behind a service there are many. Server and PeerSeen are those of the last
	// answer.
	Answers []Answer `json:"answers,omitempty"`
	// ServerAddress is the address at which the far end received the request.
	ServerAddress string `json:"serverAddress,omitempty"`
	// Local is the source address on this side, even for requests without an answer; empty if there is no route.
	Local string `json:"local,omitempty"`
	// Attempts is the number of attempts.
	Attempts int `json:"attempts"`
	// Sent and Received count the requests of the last attempt and the answers to them; TCP counts connections.
	Sent     int `json:"sent"`
	Received int `json:"received"`
	// FirstReply is the time from the start of the probe to the first answer; 0 if there was none.
	FirstReply time.Duration `json:"firstReply,omitempty"`
	// Duration is the time that the whole probe took.
	Duration time.Duration `json:"duration"`
	// Worst is the largest lateness of this process's timers during the probe.
	Worst time.Duration `json:"worst,omitempty"`
	// Control is the answer to a probe of the same kind over a Control; nil if there was none.
	Control *Result `json:"control,omitempty"`
}

// Answer says who answered a request and which source address it saw.
type Answer struct {
	Server   string `json:"server"`
	PeerSeen string `json:"peerSeen"`
}

// run is a running probe.
type run struct {
	namespace
	spec     Spec
	answers  []Answer // of this attempt, each once
	to, from endpoint
	// via is the destination of the requests if it is not to; otherwise the zero endpoint.
	via    endpoint
	start  time.Time
	result Result
}

// Run asks the question s in the network namespace at path netns, until an attempt succeeds, or until time, attempts or
// ctx are used up. It returns an error for a spec or namespace that cannot be used; a target that does not answer is a
// Result. Calls may be made concurrently.
func Run(ctx context.Context, netns string, s Spec) (Result, error) {
	n, err := openNamespace(netns)
	if err != nil {
		return Result{}, err
	}
	defer n.close()
	return askIn(ctx, n, s)
}

func askIn(ctx context.Context, n namespace, s Spec) (Result, error) {
	r, err := newRun(n, s)
	if err != nil {
		return Result{}, err
	}
	r.start = time.Now()
	interval := machinetime.Start()
	ctx, cancel := machinetime.WithTimeout(ctx, r.spec.Within)
	defer cancel()
	defer machinetime.WatchSelf(ctx)()
	wait := replyWait
	if r.spec.Attempts > 0 {
		wait = r.spec.Within / time.Duration(r.spec.Attempts)
	}
	for {
		r.result.Attempts++
		err := r.attempt(ctx, wait)
		// The reason of an attempt that was cut off counts only if there was none before.
		if err == nil || ctx.Err() == nil || r.result.Error == "" {
			r.result.Error = ""
			if err != nil {
				r.result.Error = err.Error()
			}
		}
		if err == nil || r.result.Attempts == r.spec.Attempts || !pause(ctx, retryPause) {
			r.result.OK = err == nil
			break
		}
	}
	r.result.Duration, r.result.Worst = time.Since(r.start), interval.Worst()
	return r.result, nil
}

func newRun(n namespace, s Spec) (*run, error) {
	s, err := s.complete()
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	r := &run{namespace: n, spec: s}
	if err := r.endpoints(); err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	return r, nil
}

// complete fills in the defaults.
func (s Spec) complete() (Spec, error) {
	switch s.Protocol {
	case TCP, UDP:
		if s.Port == 0 {
			return s, errors.New("want a port, got 0")
		}
	case ICMP:
	default:
		return s, fmt.Errorf("want protocol tcp, udp or icmp, got %q", s.Protocol)
	}
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"bytes", int64(s.Bytes)},
		{"size", int64(s.Size)},
		{"count", int64(s.Count)},
		{"interval", int64(s.Interval)},
		{"within", int64(s.Within)},
		{"attempts", int64(s.Attempts)},
	} {
		if field.value < 0 {
			return s, fmt.Errorf("want %s of 0 or more, got %d", field.name, field.value)
		}
	}
	if s.Protocol == ICMP {
		// Replies to ICMP are compared with the endpoint that was asked, and have no port.
		s.Port = 0
	}
	setDefault(&s.Bytes, defaultBytes)
	setDefault(&s.Count, 1)
	setDefault(&s.Interval, defaultInterval)
	setDefault(&s.Within, defaultWithin)
	return s, nil
}

func setDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

func (r *run) endpoints() error {
	to, err := parseAddress(r.spec.To)
	if err != nil {
		return fmt.Errorf("to: %w", err)
	}
	if r.to, err = r.resolve(to, r.spec.Port); err != nil {
		return err
	}
	if r.spec.From != "" {
		from, err := parseAddress(r.spec.From)
		if err != nil {
			return fmt.Errorf("from: %w", err)
		}
		if from.Is4() != to.Is4() {
			return fmt.Errorf("from %s and to %s are of different families", from, to)
		}
		if r.from, err = r.resolve(from, 0); err != nil {
			return err
		}
		if from.Is6() && from.IsLinkLocalUnicast() && r.from.link == 0 {
			r.from.link = r.to.link
		}
	}
	if r.spec.Via != "" {
		if err := r.resolveVia(to); err != nil {
			return err
		}
	}
	if r.spec.Protocol == TCP {
		return nil
	}
	return r.checkSize()
}

// resolveVia reads the broadcast or multicast address.
func (r *run) resolveVia(to netip.Addr) error {
	if r.spec.Protocol != UDP {
		return fmt.Errorf("via is of udp, got %s", r.spec.Protocol)
	}
	via, err := parseAddress(r.spec.Via)
	if err != nil {
		return fmt.Errorf("via: %w", err)
	}
	if via.Is4() != to.Is4() {
		return fmt.Errorf("via %s and to %s are of different families", via, to)
	}
	device, err := r.resolve(netip.IPv6LinkLocalAllNodes().WithZone(r.spec.Device), 0)
	if err != nil {
		return err
	}
	r.via = endpoint{addr: via, port: r.spec.Port, link: device.link}
	return nil
}

func (r *run) attempt(ctx context.Context, wait time.Duration) error {
	r.result.Sent, r.result.Received, r.result.Answers, r.answers = 0, 0, nil, nil
	if r.spec.Protocol == TCP {
		return r.connections(ctx, wait)
	}
	return r.packets(ctx, wait)
}

// answered records the answer to one request.
func (r *run) answered(answer reply, local string) {
	r.result.Received++
	if r.result.FirstReply == 0 {
		r.result.FirstReply = time.Since(r.start)
	}
	r.result.Server, r.result.PeerSeen, r.result.ServerAddress = answer.Name, answer.Peer, answer.Local
	if a := (Answer{Server: answer.Name, PeerSeen: answer.Peer}); !slices.Contains(r.answers, a) {
		r.answers = append(r.answers, a)
	}
	if len(r.answers) > 1 {
		r.result.Answers = r.answers
	}
	r.result.Local = local
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
