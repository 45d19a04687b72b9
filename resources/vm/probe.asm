# The boot sector of the probe (probe.go): what a stock operating system does in its
# first moments. Broken KVM, as where virtualisation is nested or emulated, lets a few
# instructions through and fails at these.
#
# as -o probe.o probe.asm && ld -Ttext=0x7c00 --oformat binary -o probe.bin probe.o
.code16
.globl _start
_start:
  cli
  xorw %ax,%ax
  movw %ax,%ds
  movw %ax,%es
  movw %ax,%ss
  movw $0x7c00,%sp
  ljmp $0,$1f
1: sti
  # the firmware: a call, and its timer's interrupts wake the processor
  xorb %ah,%ah
  int $0x1a
  movw %dx,%si
2: hlt
  xorb %ah,%ah
  int $0x1a
  cmpw %dx,%si
  je 2b
  cli
  # tables that map the first 2 MiB: 0x1000, 0x2000, 0x3000
  movw $0x1000,%di
  xorl %eax,%eax
  movw $0xc00,%cx
  rep stosl
  movw $0x2003,(0x1000)
  movw $0x3003,(0x2000)
  movw $0x0083,(0x3000)
  # long mode: PAE and SSE, the tables, EFER.LME, then paging
  movl $0x620,%eax
  movl %eax,%cr4
  movl $0x1000,%eax
  movl %eax,%cr3
  movl $0xc0000080,%ecx
  rdmsr
  orl $0x100,%eax
  wrmsr
  movl $0x80000011,%eax
  movl %eax,%cr0
  lgdt gdtr
  ljmp $8,$3f
.code64
3:
  # the stack, SSE, the time, and an interrupt's return
  movl $16,%eax
  movl %eax,%ss
  movl $0x7c00,%esp
  movl $0x01020304,%eax
  movd %eax,%xmm0
  paddd %xmm0,%xmm0
  movd %xmm0,%ebx
  cmpl $0x02040608,%ebx
  jne 9f
  cpuid
  rdtsc
  pushq $16
  pushq $0x7c00
  pushfq
  pushq $8
  leaq 4f(%rip),%rax
  pushq %rax
  iretq
4: movb $0x10,%al
  outb %al,$0xf4
9: hlt
  jmp 9b
.balign 8
gdt: .quad 0, 0x00209a0000000000, 0x0000920000000000
gdtr: .word 23
  .long gdt
.org 510
.word 0xaa55
