package sim

import (
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// words makes a logger whose lines go into the story.
func (n *node) words() *zap.Logger {
	if !n.w.opt.Story {
		return zap.NewNop()
	}
	return zap.New(storyCore{n})
}

// storyCore is a zapcore.Core over a story.
type storyCore struct{ n *node }

var _ zapcore.Core = storyCore{}

// Enabled implements zapcore.Core.
func (s storyCore) Enabled(l zapcore.Level) bool { return l >= zapcore.InfoLevel }

// With implements zapcore.Core.
func (s storyCore) With([]zapcore.Field) zapcore.Core { return s }

// Check implements zapcore.Core.
func (s storyCore) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return c.AddCore(e, s)
}

// Write implements zapcore.Core.
func (s storyCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	text := e.Message
	for _, f := range fields {
		switch {
		case f.Type == zapcore.StringType:
			text += fmt.Sprintf(" %s=%q", f.Key, f.String)
		case f.Interface != nil:
			text += fmt.Sprintf(" %s=%v", f.Key, f.Interface)
		default:
			text += fmt.Sprintf(" %s=%d", f.Key, f.Integer)
		}
	}
	s.n.w.tell(s.n.name, "%s", text)
	return nil
}

// Sync implements zapcore.Core.
func (s storyCore) Sync() error { return nil }
