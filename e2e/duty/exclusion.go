package duty

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
	"github.com/cnitest/cnitest/e2e/machinetime"
)

func exclusion() map[string]func(context.Context, *bench) error {
	return map[string]func(context.Context, *bench) error{
		"RUN-25": checkValidAttachments, "RUN-26": checkOneContainer, "RUN-27": checkGCAlone,
	}
}

// attachment is an entry of cni.dev/valid-attachments.
type attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

func checkValidAttachments(ctx context.Context, b *bench) error {
	if err := b.need(CanGC); err != nil {
		return err
	}
	if err := b.use(ctx, b.newChain(b.version)); err != nil {
		return err
	}
	for _, op := range []Operation{
		{Verb: cni.Add, Pod: b.pod("a")},
		{Verb: cni.Add, Pod: b.pod("b")},
		{Verb: cni.Del, Pod: b.pod("b")},
		{Verb: cni.GC, Valid: []string{b.pod("a")}},
	} {
		if answer, err := b.ask(ctx, op); err != nil {
			return err
		} else if answer.Failed {
			return wrongf("%s of a network that is in order fails: %s", op.Verb, answer.Text)
		}
	}
	calls, err := b.calls(ctx)
	if err != nil {
		return err
	}
	alive, collected := map[attachment]bool{}, false
	for _, c := range calls {
		which := attachment{c.value("CNI_CONTAINERID"), c.value("CNI_IFNAME")}
		switch cni.Verb(c.Verb) {
		case cni.Add:
			alive[which] = true
		case cni.Del:
			delete(alive, which)
		case cni.GC:
			collected = true
			if err := checkValid(c, alive); err != nil {
				return err
			}
		}
	}
	if !collected {
		return wrongf("GC calls no plugin")
	}
	return nil
}

// checkValid compares the list in the configuration of GC with the attachments that live.
func checkValid(c call, alive map[attachment]bool) error {
	const key = "cni.dev/valid-attachments"
	value, there := c.config[key]
	if !there {
		want := append([]attachment{}, slices.Collect(maps.Keys(alive))...)
		return wrongf("%s gets no %s, want %s", c.name(), key, inJSON(want))
	}
	var list []attachment
	if err := json.Unmarshal([]byte(inJSON(value)), &list); err != nil || list == nil {
		return wrongf("%s gets %s: %s, want a list of containers and interfaces", c.name(), key, inJSON(value))
	}
	for which := range alive {
		if !slices.Contains(list, which) {
			return wrongf("%s gets %s: %s without %s, which is attached", c.name(), key, inJSON(value), inJSON(which))
		}
	}
	for _, which := range list {
		if !alive[which] {
			return wrongf("%s gets %s: %s with %s, which is not attached", c.name(), key, inJSON(value), inJSON(which))
		}
	}
	return nil
}

// work is how long a plugin works while another operation is asked for.
const work = 600 * time.Millisecond

func checkOneContainer(ctx context.Context, b *bench) error {
	c := b.newChain(b.version)
	c.order(first, cni.Add, stub.Behaviour{Delay: work})
	if err := b.use(ctx, c); err != nil {
		return err
	}
	adding := Operation{Verb: cni.Add, Pod: b.pod("a")}
	deleting := adding
	deleting.Verb = cni.Del
	calls, err := b.together(ctx, adding, deleting)
	if err != nil {
		return err
	}
	if other := during(calls, cni.Add, cni.Del); other != nil {
		return b.leftf("%s is called while %s of the same container is at work", other.name(), "ADD of first")
	}
	if b.runtime.Lacks(TakesName) != "" {
		return nil
	}
	adding = Operation{Verb: cni.Add, Pod: b.pod("b"), IfName: "net1"}
	second := adding
	second.IfName = "net2"
	calls, err = b.together(ctx, adding, second)
	if err != nil {
		return err
	}
	if other := during(calls, cni.Add, cni.Add); other != nil {
		return b.leftf("%s for %s is called while ADD of first for another interface of the same container is at work",
			other.name(), other.value("CNI_IFNAME"))
	}
	return nil
}

func checkGCAlone(ctx context.Context, b *bench) error {
	if err := b.need(CanGC); err != nil {
		return err
	}
	c := b.newChain(b.version)
	c.order(first, cni.Add, stub.Behaviour{Delay: work})
	c.order(first, cni.GC, stub.Behaviour{Delay: work})
	if err := b.use(ctx, c); err != nil {
		return err
	}
	adding := Operation{Verb: cni.Add, Pod: b.pod("a")}
	collecting := Operation{Verb: cni.GC, Valid: []string{adding.Pod}}
	calls, err := b.together(ctx, adding, collecting)
	if err != nil {
		return err
	}
	if other := during(calls, cni.Add, cni.GC); other != nil {
		return b.leftf("%s is called while ADD of first in the same network is at work", other.name())
	}
	adding.Pod = b.pod("b")
	calls, err = b.together(ctx, collecting, adding)
	if err != nil {
		return err
	}
	if other := during(calls, cni.GC, cni.Add); other != nil {
		return b.leftf("%s is called while GC of first in the same network is at work", other.name())
	}
	return nil
}

// together asks for a second operation while a plugin is at work for the first, and returns the calls of both. Whether
// the operations succeed does not matter: the runtime may refuse the second.
func (b *bench) together(ctx context.Context, one, two Operation) ([]call, error) {
	ended := make(chan error, 2)
	go func() {
		_, err := b.ask(ctx, one)
		ended <- err
	}()
	if err := b.awaitCall(ctx, one.Verb); err != nil {
		return nil, err
	}
	go func() {
		_, err := b.ask(ctx, two)
		ended <- err
	}()
	for range 2 {
		if err := <-ended; err != nil {
			return nil, err
		}
	}
	return b.calls(ctx)
}

// awaitCall waits until a plugin is called with a verb.
func (b *bench) awaitCall(ctx context.Context, verb cni.Verb) error {
	ctx, cancel := machinetime.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		all, err := b.all(ctx)
		if err != nil {
			return err
		}
		if len(only(all[b.seen:], verb)) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return wrongf("%s calls no plugin within ten seconds", verb)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// during returns a call of the verb other that began while the first plugin was at work for a verb; nil if none did.
// The plugin works at least so long: what it does is sleep.
func during(calls []call, verb, other cni.Verb) *call {
	for _, at := range calls {
		if at.Verb != string(verb) || at.place != first {
			continue
		}
		for i, c := range calls {
			if c.Verb == string(other) && c.Start.After(at.Start) && c.Start.Before(at.Start.Add(work)) {
				return &calls[i]
			}
		}
	}
	return nil
}
