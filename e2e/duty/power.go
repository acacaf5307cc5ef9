package duty

import (
	"context"
	"slices"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/disk"
)

func afterPowerCut() map[string]func(context.Context, *bench) error {
	return map[string]func(context.Context, *bench) error{"RUN-39": checkPowerCut}
}

// recorder is a runtime whose files can be recorded.
type recorder interface {
	Record(ctx context.Context, op Operation) (Answer, error)
}

func checkPowerCut(ctx context.Context, b *bench) error {
	runtime, ok := b.runtime.(recorder)
	if !ok {
		return &exempt{"what it writes on the disk cannot be recorded: it is no program that ends with an operation"}
	}
	if reason, err := b.agent.CanTrace(ctx); err != nil || reason != "" {
		return errOr(err, &exempt{"programs cannot be traced here: " + reason})
	}
	// Older runtimes, which do not know a newer one, trip most.
	if err := b.use(ctx, b.newChain("1.0.0")); err != nil {
		return err
	}
	op := Operation{Verb: cni.Add, Pod: b.pod("a")}
	answer, err := b.askBy(ctx, op, runtime.Record)
	if err != nil {
		return err
	}
	if _, err := b.calls(ctx); err != nil {
		return err
	}
	if answer.Failed {
		return wrongf("ADD fails: %s", answer.Text)
	}
	recording, err := b.agent.Recorded(ctx)
	if err != nil {
		return err
	}
	if len(recording.Calls) == 0 {
		return &exempt{"it keeps nothing on the disk that a power cut could damage"}
	}
	op.Verb = cni.Del
	for _, d := range recording.Disks() {
		if err := b.layOut(ctx, d); err != nil {
			return err
		}
		answer, calls, err := b.run(ctx, op)
		if err != nil {
			return err
		}
		when := "if the power fails " + d.Describe(&recording)
		if answer.Failed {
			return wrongf("%s, DEL fails: %s", when, answer.Text)
		}
		if got := placesOf(calls, cni.Del); len(d.Damaged) > 0 && !slices.Equal(got, reversed) {
			return wrongf("%s, DEL calls %s, want %s", when, listed(got), listed(reversed))
		}
	}
	return nil
}

// errOr returns an error, or another one if there is none.
func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// layOut makes the files of a disk, and leaves those that the recording does not have.
func (b *bench) layOut(ctx context.Context, d disk.Disk) error {
	for _, path := range d.Gone {
		// A directory stays that has files of other pods.
		_ = b.agent.RemoveFile(ctx, path)
	}
	for _, f := range d.Files {
		if err := b.agent.WriteFile(ctx, agent.File{Path: f.Path, Mode: f.Mode, Data: f.Data}); err != nil {
			return err
		}
	}
	return nil
}
