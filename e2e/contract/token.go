package contract

import (
	"fmt"
	"slices"
	"strings"
)

// Token names one case of a requirement that tries many on a plugin, as "route:RACE-ADD-DEL:pods-cold:A14.B3": the type
// of the plugin, the id of the requirement, and the case in its own words. Numbers in it are those of one binary on one
// kernel.
type Token struct {
	plugin      string
	requirement *Requirement
	// one is the case. It is looked for among all that the requirement would try.
	one string
}

// ParseToken returns the token with a text.
func ParseToken(text string) (*Token, error) {
	wrong := func(why string) error {
		return fmt.Errorf("token %q: %s; want one that a report shows, like route:RACE-ADD-DEL:pods-cold:A14", text,
			why)
	}
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 || slices.Contains(parts, "") {
		return nil, wrong("it does not name a plugin, a requirement and a case")
	}
	t := &Token{plugin: parts[0], requirement: Find(parts[1]), one: parts[2]}
	if t.requirement == nil || t.requirement.ID != parts[1] {
		return nil, wrong("no requirement is " + parts[1])
	}
	if !t.requirement.Sweeps() {
		return nil, wrong(parts[1] + " has a single case")
	}
	if _, ok := racingVerbs(t.requirement.ID); ok {
		if _, _, err := parseSchedule(t.requirement.ID, t.one); err != nil {
			return nil, wrong(err.Error())
		}
	}
	return t, nil
}

// Requirement returns the id of the requirement, Plugin the type of its plugin.
func (t *Token) Requirement() string { return t.requirement.ID }

// Plugin returns the type of the plugin.
func (t *Token) Plugin() string { return t.plugin }

// String returns the token's text.
func (t *Token) String() string { return fmt.Sprintf("%s:%s:%s", t.plugin, t.requirement.ID, t.one) }

// token returns the token of a case of a trial.
func (t *trial) token(one string) *Token {
	return &Token{plugin: t.subject.Type, requirement: t.requirement, one: one}
}

// again says how a case is tried again.
func (t *Token) again() string {
	return fmt.Sprintf("repeat it: cnitest run CONFLIST --replay %s\n", t)
}

// named adds the token to what it is about.
func (t *Token) named(what string) string { return fmt.Sprintf("%s (--replay %s)", what, t) }

// pick returns the case of the token, of all that a requirement can try.
func pick[T any](t *Token, all []T, text func(T) string) ([]T, error) {
	i := slices.IndexFunc(all, func(one T) bool { return text(one) == t.one })
	if i < 0 {
		return nil, t.lost()
	}
	return all[i : i+1], nil
}

// lost returns the error of a token whose case is none any more.
func (t *Token) lost() error {
	return fmt.Errorf("no case of %s is %s: %s now makes other calls", t.Requirement(), t.one, t.plugin)
}
