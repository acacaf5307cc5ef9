package duty

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault/stub"
)

// Newest is the version of the specification at which most duties are asked, unless Options.CNIVersion has another.
const Newest = "1.1.0"

// The places of the plugins in a chain.
const (
	first  = "first"
	middle = "middle"
	last   = "last"
)

// inOrder and reversed are the places in the order of ADD and of DEL.
var (
	inOrder  = []string{first, middle, last}
	reversed = []string{last, middle, first}
)

// bench asks one duty of a runtime.
type bench struct {
	runtime Runtime
	agent   *agent.Client
	// network is the name of the duty's network, and begins the names of its pods.
	network string
	// version is the version of its networks, where the duty is not about versions.
	version string
	// log is where its plugins record their calls.
	log   string
	plain *plain

	mu   sync.Mutex
	told []string
	seen int
}

// wrong says how a runtime fails a duty.
type wrong struct{ text string }

func (w *wrong) Error() string { return w.text }

func wrongf(format string, args ...any) error { return &wrong{fmt.Sprintf(format, args...)} }

// exempt says why a duty cannot be asked.
type exempt struct{ reason string }

func (e *exempt) Error() string { return e.reason }

// need returns an error unless the runtime has an ability.
func (b *bench) need(abilities ...Ability) error {
	for _, a := range abilities {
		if reason := b.runtime.Lacks(a); reason != "" {
			return &exempt{reason}
		}
	}
	return nil
}

// leftf says that the runtime called plugins when it must not, which is its caller's fault if it leaves the order to
// the caller.
func (b *bench) leftf(format string, args ...any) error {
	if reason := b.runtime.Lacks(Orders); reason != "" {
		return &exempt{fmt.Sprintf("%s; seen: "+format, append([]any{reason}, args...)...)}
	}
	return wrongf(format, args...)
}

// chain is a network of three plugins that record their calls.
type chain struct {
	// list has the keys of the network besides plugins.
	list map[string]any
	// plugins are the plugins of the list; nil leaves the key out.
	plugins []map[string]any
	// folders are further plugins, each in a file of its own, by the folder's name.
	folders map[string][]map[string]any
	// before is another network, whose file comes before that of the list; nil means none.
	before map[string]any
}

// newChain returns a network at a version. ADD of each plugin returns resultOf its place.
func (b *bench) newChain(version string) *chain {
	c := &chain{list: map[string]any{"cniVersion": version, "name": b.network}}
	for _, place := range inOrder {
		c.plugins = append(c.plugins, b.plugin(place, version))
	}
	return c
}

// plugin returns the configuration of a plugin at a place.
func (b *bench) plugin(place, version string) map[string]any {
	return map[string]any{"type": stub.Chained, "place": place, stub.Key: stub.Orders{
		Log: b.log, On: map[string]stub.Behaviour{string(cni.Add): {Result: resultOf(place, version)}},
	}}
}

// order makes the plugin at a place do something with a verb. ADD still returns the same result, if it returns one.
func (c *chain) order(place string, verb cni.Verb, do stub.Behaviour) {
	for _, plugin := range c.plugins {
		if plugin["place"] == place {
			on := plugin[stub.Key].(stub.Orders).On
			do.Result = on[string(verb)].Result
			on[string(verb)] = do
		}
	}
}

// resultOf returns the result of the plugin at a place: the interfaces of it and the plugins before it, with an
// address. Runtimes may want the first one's name, eth0. Versions before 0.3.0 have no interfaces.
func resultOf(place, version string) json.RawMessage {
	n := slices.Index(inOrder, place) + 1
	if version == "0.1.0" || version == "0.2.0" {
		return json.RawMessage(fmt.Sprintf(`{"cniVersion":%q,"ip4":{"ip":"198.18.0.%d/24"}}`, version, n))
	}
	var interfaces []string
	for i := range n {
		interfaces = append(interfaces, fmt.Sprintf(`{"name":"eth%d","mac":"02:00:00:00:00:0%d"}`, i, i))
	}
	family := ""
	if strings.HasPrefix(version, "0.") {
		family = `"version":"4",`
	}
	return json.RawMessage(fmt.Sprintf(`{"cniVersion":%q,"interfaces":[%s],"ips":[{%s"interface":0,`+
		`"address":"198.18.0.%d/24","gateway":"198.18.0.254"}],`+
		`"routes":[{"dst":"198.18.%d.0/24","gw":"198.18.0.254"}],`+
		`"dns":{"nameservers":["198.18.0.53"]}}`, version, strings.Join(interfaces, ","), family, n, n))
}

// use makes a chain the runtime's configuration.
func (b *bench) use(ctx context.Context, c *chain) error {
	list := map[string]any{}
	for key, value := range c.list {
		list[key] = value
	}
	if c.plugins != nil {
		list["plugins"] = c.plugins
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	files := map[string]string{"10-" + strings.ToLower(b.network) + ".conflist": string(text)}
	if c.before != nil {
		text, err := json.Marshal(c.before)
		if err != nil {
			return err
		}
		files["05-before.conflist"] = string(text)
	}
	for folder, plugins := range c.folders {
		for i, plugin := range plugins {
			text, err := json.Marshal(plugin)
			if err != nil {
				return err
			}
			files[filepath.Join(folder, fmt.Sprintf("%d0-plugin.conf", i+1))] = string(text)
		}
	}
	return b.runtime.Use(ctx, files)
}

// call is a call of a plugin.
type call struct {
	stub.Record
	place string
	// config is its input, with numbers as they stand there.
	config map[string]any
}

// run asks the runtime for an operation of the duty's network, and returns the calls of plugins meanwhile.
func (b *bench) run(ctx context.Context, op Operation) (Answer, []call, error) {
	answer, err := b.ask(ctx, op)
	if err != nil {
		return answer, nil, err
	}
	calls, err := b.calls(ctx)
	return answer, calls, err
}

// ask asks the runtime for an operation.
func (b *bench) ask(ctx context.Context, op Operation) (Answer, error) {
	return b.askBy(ctx, op, b.runtime.Run)
}

// askBy does the same by another method of the runtime.
func (b *bench) askBy(
	ctx context.Context, op Operation, run func(context.Context, Operation) (Answer, error),
) (Answer, error) {
	if op.Network == "" {
		op.Network = b.network
	}
	answer, err := run(ctx, op)
	end := "success"
	if answer.Failed {
		end = "failure"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, strings.TrimSpace(fmt.Sprintf("%s of %q %s: %s %s", op.Verb, op.Network, op.Pod, end,
		answer.Text)))
	return answer, err
}

// calls returns the calls since it was called before.
func (b *bench) calls(ctx context.Context) ([]call, error) {
	all, err := b.all(ctx)
	if err != nil {
		return nil, err
	}
	since := all[b.seen:]
	b.seen = len(all)
	return since, nil
}

// all returns all calls of the duty's plugins, in the order of time.
func (b *bench) all(ctx context.Context) ([]call, error) {
	records, err := b.agent.StubRecords(ctx, b.log)
	if err != nil {
		return nil, err
	}
	var calls []call
	for _, r := range records {
		c := call{Record: r}
		if err := decode([]byte(r.Stdin), &c.config); err != nil {
			return nil, err
		}
		c.place, _ = c.config["place"].(string)
		calls = append(calls, c)
	}
	return calls, nil
}

// decode reads JSON and keeps numbers as they are.
func decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(into)
}

// add attaches a pod, and returns the calls for it. It is wrong if ADD fails, or any plugin is not called in its turn.
func (b *bench) add(ctx context.Context, op Operation) ([]call, error) {
	op.Verb = cni.Add
	return b.must(ctx, op, inOrder)
}

// must asks for an operation that has to succeed, and call the plugins at these places in this order. DEL may do so
// again and again (SPEC.md, section 2, DEL: plugins should accept multiple DEL calls).
func (b *bench) must(ctx context.Context, op Operation, want []string) ([]call, error) {
	answer, calls, err := b.run(ctx, op)
	switch {
	case err != nil:
		return nil, err
	case answer.Failed:
		return nil, wrongf("%s of a network that is in order fails: %s", op.Verb, answer.Text)
	case !slices.Equal(placesOf(calls, op.Verb), rounds(op.Verb, calls, want)):
		return nil, wrongf("%s calls %s, want %s", op.Verb, listed(placesOf(calls, op.Verb)), listed(want))
	}
	return only(calls, op.Verb), nil
}

// rounds repeats the places of a chain as often as calls have it, if they may.
func rounds(verb cni.Verb, calls []call, places []string) []string {
	if verb != cni.Del {
		return places
	}
	return slices.Repeat(places, max(1, len(only(calls, verb))/len(places)))
}

// only returns the calls of a verb.
func only(calls []call, verb cni.Verb) []call {
	return slices.DeleteFunc(slices.Clone(calls), func(c call) bool { return c.Verb != string(verb) })
}

// placesOf returns the places of the calls of a verb.
func placesOf(calls []call, verb cni.Verb) []string {
	var places []string
	for _, c := range only(calls, verb) {
		places = append(places, c.place)
	}
	return places
}

func listed(places []string) string {
	if len(places) == 0 {
		return "no plugin"
	}
	return strings.Join(places, ", ")
}

// value returns a variable of a call; empty is the same as not set.
func (c call) value(name string) string {
	v, _ := c.Var(name)
	return v
}

// name says in a word which call it is.
func (c call) name() string { return c.Verb + " of " + c.place }

// pod returns the name of a pod of the duty.
func (b *bench) pod(suffix string) string { return strings.ToLower(b.network) + "-" + suffix }

// verbs are the verbs that the runtime can be asked for, with the places that each calls in turn.
func (b *bench) verbs() []turn {
	turns := []turn{{cni.Add, inOrder}}
	for _, t := range []struct {
		verb    cni.Verb
		ability Ability
	}{{cni.Check, CanCheck}, {cni.Status, CanStatus}, {cni.GC, CanGC}} {
		if b.runtime.Lacks(t.ability) == "" {
			turns = append(turns, turn{t.verb, inOrder})
		}
	}
	return append(turns, turn{cni.Del, reversed})
}

// turn is a verb, and the order in which it calls plugins.
type turn struct {
	verb   cni.Verb
	places []string
}

// life attaches a pod, asks for everything that the runtime can be asked for, and deletes the pod. GC of a runtime that
// takes no list of pods may delete it before.
func (b *bench) life(ctx context.Context, op Operation) ([]call, error) {
	var all []call
	for _, t := range b.verbs() {
		op.Verb, op.Valid = t.verb, []string{op.Pod}
		calls, err := b.must(ctx, op, t.places)
		if err != nil {
			return nil, err
		}
		all = append(all, calls...)
	}
	return all, nil
}
