package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cnitest/cnitest/e2e/cni"
)

// RoundArgs describe verbs of one network for several pods. Each verb is called for all pods before the next one.
type RoundArgs struct {
	// Request has the conflist, the directories of the plugins and the timeout of a verb; the rest of it is set for
	// each pod and verb.
	Request cni.Request `json:"request"`
	Verbs   []cni.Verb  `json:"verbs"`
	Pods    []RoundPod  `json:"pods"`
	// Callers is how many pods a verb is called for at the same time; 0 means all.
	Callers int `json:"callers,omitempty"`
}

// RoundPod is a pod of a round.
type RoundPod struct {
	ContainerID    string         `json:"containerID"`
	Netns          string         `json:"netns"`
	IfName         string         `json:"ifName"`
	Args           [][2]string    `json:"args,omitempty"`
	CapabilityArgs map[string]any `json:"capabilityArgs,omitempty"`
}

// RoundVerb says how long the calls of one verb took.
type RoundVerb struct {
	Verb cni.Verb `json:"verb"`
	// Wall is the time from the start of the first plugin to the end of the last one.
	Wall time.Duration `json:"wall"`
	// Took has the time of each pod, in the order of the pods: the sum over all plugins of the chain, each from the
	// start of its process to its end.
	Took []time.Duration `json:"took"`
	// CPU has the processor time of the same programs, and of the programs that they started and waited for.
	CPU []time.Duration `json:"cpu"`
	// Results are the results of ADD in the order of the pods; nil for other verbs.
	Results []json.RawMessage `json:"results,omitempty"`
}

// Round calls verbs of a network through libcni for several pods, and says how long the plugins took. After a call that
// fails it calls no further verb but DEL, for all pods, and returns the error. Unlike CNI it may be called while other
// requests of the same pods run, for which nothing is waited.
func (s *Server) Round(args RoundArgs, reply *[]RoundVerb) error {
	defer reapOrphans()
	var spans [][]span
	for _, verb := range args.Verbs {
		did, during, err := args.call(verb)
		if err != nil {
			if verb != cni.Del {
				_, _, _ = args.call(cni.Del)
			}
			return err
		}
		*reply, spans = append(*reply, did), append(spans, during)
	}
	// Only now, since this waits until the plugins are reaped.
	for i, during := range spans {
		for pod := range during {
			(*reply)[i].CPU[pod] = during[pod].processor()
		}
	}
	return nil
}

// call calls a verb for all pods.
func (a *RoundArgs) call(verb cni.Verb) (RoundVerb, []span, error) {
	did := RoundVerb{
		Verb: verb, Took: make([]time.Duration, len(a.Pods)), CPU: make([]time.Duration, len(a.Pods)),
	}
	if verb == cni.Add {
		did.Results = make([]json.RawMessage, len(a.Pods))
	}
	spans := make([]span, len(a.Pods))
	var group errgroup.Group
	group.SetLimit(-1)
	if a.Callers > 0 {
		group.SetLimit(a.Callers)
	}
	for i, pod := range a.Pods {
		group.Go(func() (err error) {
			result, err := a.callFor(pod, verb, &spans[i])
			if err != nil {
				return fmt.Errorf("%s of %s: %w", verb, pod.ContainerID, err)
			}
			if verb == cni.Add {
				did.Results[i] = result
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return did, nil, err
	}
	if len(a.Pods) == 0 {
		return did, nil, errors.New("a round has no pods")
	}
	begin, end := spans[0].first, spans[0].last
	for i, span := range spans {
		if span.first.Before(begin) {
			begin = span.first
		}
		if span.last.After(end) {
			end = span.last
		}
		did.Took[i] = span.took
	}
	did.Wall = end.Sub(begin)
	return did, spans, nil
}

// span is when the plugins of one call ran.
type span struct {
	first, last time.Time
	took        time.Duration
	cpu         []func() time.Duration
}

func (s *span) processor() (sum time.Duration) {
	for _, cpu := range s.cpu {
		sum += cpu()
	}
	return sum
}

// callFor calls a verb for one pod.
func (a *RoundArgs) callFor(pod RoundPod, verb cni.Verb, s *span) (json.RawMessage, error) {
	req := a.Request
	req.Verb, req.ContainerID, req.Netns, req.IfName = verb, pod.ContainerID, pod.Netns, pod.IfName
	req.Args, req.CapabilityArgs = pod.Args, pod.CapabilityArgs
	out, err := cni.RunBy(context.Background(), req, nil, func(ctx context.Context, path string, env []string,
		stdin []byte,
	) cni.Call {
		begin := time.Now()
		call, cpu := cni.ExecMeasured(ctx, path, env, stdin)
		if s.first.IsZero() {
			s.first = begin
		}
		s.last = begin.Add(call.Duration)
		s.took += call.Duration
		s.cpu = append(s.cpu, cpu)
		return call
	})
	if err != nil {
		return nil, err
	}
	return out.Result, out.Err()
}

// Round calls verbs of a network for several pods, and says how long the plugins took.
func (c *Client) Round(ctx context.Context, args RoundArgs) ([]RoundVerb, error) {
	return call[[]RoundVerb](ctx, c, "Round", args)
}
