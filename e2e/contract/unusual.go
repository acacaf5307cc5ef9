package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/cni"
)

// bulk is the number of bytes that are added to a configuration: more than a page, and more than a pipe holds at once.
const bulk = 96 << 10

// unusualForm is a way to write a configuration that means the same as the plain one.
type unusualForm struct {
	what string
	edit func(*invocation) error
	// refusable says that the plugin may refuse it with code 2, since it has a key that the plugin need not know.
	refusable bool
}

// unusualForms returns configurations in valid JSON that authors rarely test by hand.
func unusualForms() []unusualForm {
	return []unusualForm{
		{what: fmt.Sprintf("with %d KiB of white space", bulk>>10), edit: rewritten(func(text []byte) []byte {
			return slices.Concat([]byte("{"+strings.Repeat(" ", bulk)), text[1:], []byte("\n"))
		})},
		{what: "with letters written as \\u escapes", edit: rewritten(escaped)},
		{what: "with args of 50 levels", refusable: true, edit: func(inv *invocation) error {
			var nested any = strings.Repeat("x", bulk)
			for range 50 {
				nested = map[string]any{"cnitest": []any{nested}}
			}
			args, _ := inv.config["args"].(map[string]any)
			inv.config["args"] = withKey(args, "cnitest", nested)
			return nil
		}},
		{what: "with 300 further ranges of addresses", edit: func(inv *invocation) error {
			ipam, _ := inv.config["ipam"].(map[string]any)
			sets, _ := ipam["ranges"].([]any)
			if len(sets) == 0 || ipam["type"] != "host-local" {
				return nil
			}
			set, _ := sets[0].([]any)
			if len(set) == 0 || strings.Contains(fmt.Sprint(set[0]), "::") {
				return nil
			}
			long := append([]any{}, set...)
			for i := range 300 {
				long = append(long, map[string]any{"subnet": fmt.Sprintf("100.%d.%d.0/24", 64+i/256, i%256)})
			}
			inv.config["ipam"] = withKey(ipam, "ranges", append([]any{long}, sets[1:]...))
			return nil
		}},
	}
}

// withKey returns a copy of an object with one more key.
func withKey(object map[string]any, key string, value any) map[string]any {
	other := maps.Clone(object)
	if other == nil {
		other = map[string]any{}
	}
	other[key] = value
	return other
}

// rewritten passes another text of the same configuration to the plugin.
func rewritten(rewrite func([]byte) []byte) func(*invocation) error {
	return func(inv *invocation) error {
		text, err := json.Marshal(inv.config)
		if err == nil {
			inv.stdin = rewrite(text)
		}
		return err
	}
}

// escaped writes each letter in the strings of a JSON text as an escape (RFC 8259, 7).
func escaped(text []byte) []byte {
	var out bytes.Buffer
	inString := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"':
			inString = !inString
			out.WriteByte(c)
		case inString && c == '\\':
			// An escape stays as it is, with the character after it.
			out.Write(text[i : i+2])
			i++
			if text[i] == 'u' {
				out.Write(text[i+1 : i+5])
				i += 4
			}
		case inString && (c|0x20) >= 'a' && (c|0x20) <= 'z':
			fmt.Fprintf(&out, "\\u%04x", c)
		default:
			out.WriteByte(c)
		}
	}
	return out.Bytes()
}

func checkUnusualConfiguration(ctx context.Context, t *trial) error {
	b, err := t.bench(ctx, manyPods)
	if err != nil {
		return err
	}
	// Whether the plain form works is tested elsewhere.
	plain, err := b.attach(ctx, "plain")
	if err != nil {
		return err
	}
	if _, err := b.must(ctx, cni.Del, plain); err != nil {
		return err
	}
	for i, form := range unusualForms() {
		if err := b.tryForm(ctx, fmt.Sprintf("form-%d", i), form); err != nil {
			return fmt.Errorf("a configuration %s: %w", form.what, err)
		}
	}
	return nil
}

// tryForm attaches, checks and deletes a pod with a configuration in another form, up to the first call that fails.
func (b *bench) tryForm(ctx context.Context, name string, form unusualForm) error {
	p, err := b.pod(ctx, name)
	if err != nil {
		return err
	}
	for _, verb := range []cni.Verb{cni.Add, cni.Check, cni.Del} {
		if verb == cni.Check && !atLeast(b.version, "0.4.0") {
			continue
		}
		var failed error
		call, err := b.call(ctx, verb, p, func(inv *invocation) { failed = form.edit(inv) })
		if err != nil || failed != nil {
			return errors.Join(err, failed)
		}
		if answer, ok := failure(call); ok && form.refusable && answer.Code == 2 && call.ExitCode != 0 {
			b.note("it refuses a configuration %s, as it may", form.what)
			break
		}
		if call.ExitCode != 0 {
			b.wrong([]cni.Call{call}, "%s with a configuration %s: want success as without, got %s", verb, form.what,
				summary(call))
			break
		}
	}
	// The plain form deletes what another one did not.
	if _, err := b.must(ctx, cni.Del, p); err != nil {
		return err
	}
	return b.end(ctx, p)
}
