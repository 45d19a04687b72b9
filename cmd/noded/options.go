package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.yaml.in/yaml/v4"

	"quorate/cluster/keeper"
)

// file is the configuration file; flags go before it.
type file struct {
	State     string `yaml:"state"`
	Run       string `yaml:"run"`
	Storage   string `yaml:"storage"`
	Listen    string `yaml:"listen"`
	Initiator string `yaml:"initiator"`
	LogLevel  string `yaml:"log-level"`
	Realtime  bool   `yaml:"realtime"`
}

const defaultConfig = "/etc/quorate/noded.yaml"

type allOptions struct {
	keeper.Options
	realtime bool
}

// options reads flags and configuration.
func options(args []string) (allOptions, *zap.Logger, error) {
	var f file
	set := flag.NewFlagSet("noded", flag.ContinueOnError)
	config := set.String("config", defaultConfig, "configuration `file` (YAML); the default one need not exist")
	set.StringVar(&f.State, "state", "", "`directory` for what must survive a restart (default /var/lib/quorate)")
	set.StringVar(&f.Run, "run", "", "`directory` for the socket (default /run/quorate)")
	set.StringVar(&f.Storage, "storage", "", "`directory` below which volumes are mounted (default /ClusterStorage)")
	set.StringVar(&f.Listen, "listen", "", "host:port for the other nodes' use of volumes (default :7401)")
	set.StringVar(&f.LogLevel, "log-level", "", "debug, info, warn or error (default info)")
	if err := set.Parse(args); err != nil {
		return allOptions{}, nil, err
	}
	if set.NArg() > 0 {
		return allOptions{}, nil, fmt.Errorf("%q is not understood; noded takes flags only", set.Arg(0))
	}
	given := false
	set.Visit(func(fl *flag.Flag) { given = given || fl.Name == "config" && *config != defaultConfig })
	fromFile, err := read(*config, given)
	if err != nil {
		return allOptions{}, nil, err
	}
	f = merge(f, fromFile)
	level := zapcore.InfoLevel
	if f.LogLevel != "" {
		if level, err = zapcore.ParseLevel(f.LogLevel); err != nil {
			return allOptions{}, nil, fmt.Errorf("log-level %q: must be debug, info, warn or error", f.LogLevel)
		}
	}
	c := zap.NewProductionConfig()
	c.Encoding, c.Level, c.Sampling = "console", zap.NewAtomicLevelAt(level), nil
	c.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	c.DisableStacktrace = true
	log, err := c.Build()
	if err != nil {
		return allOptions{}, nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return allOptions{}, nil, err
	}
	o := apply(f, keeper.DefaultOptions(host, log))
	if err := o.Validate(); err != nil {
		return allOptions{}, nil, err
	}
	return allOptions{o, f.Realtime}, log, nil
}

// read reads the file strictly: what it does not know is an error.
func read(name string, must bool) (file, error) {
	var f file
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && !must {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// merge fills in what was not given as a flag.
func merge(f, under file) file {
	fill := func(s *string, with string) {
		if *s == "" {
			*s = with
		}
	}
	fill(&f.State, under.State)
	fill(&f.Run, under.Run)
	fill(&f.Storage, under.Storage)
	fill(&f.Listen, under.Listen)
	fill(&f.LogLevel, under.LogLevel)
	f.Initiator, f.Realtime = under.Initiator, under.Realtime
	return f
}

// apply puts what was given over the defaults.
func apply(f file, o keeper.Options) keeper.Options {
	over := func(s *string, with string) {
		if with != "" {
			*s = with
		}
	}
	over(&o.StateDir, f.State)
	over(&o.RunDir, f.Run)
	over(&o.StorageDir, f.Storage)
	over(&o.Listen, f.Listen)
	over(&o.InitiatorName, f.Initiator)
	if b, ok := debug.ReadBuildInfo(); ok {
		o.Version = b.Main.Version
	}
	return o
}
